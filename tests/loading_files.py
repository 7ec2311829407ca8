"""Write the model files that tests of loading open; run with TF_USE_LEGACY_KERAS=1, for TFMOT is among the writers.

python -m tests.loading_files FOLDER
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

SAMPLES = np.random.default_rng(0).normal(0, 1, (16, 8, 8, 3)).astype(np.float32)
CLASSES = np.random.default_rng(0).integers(0, 5, 16)


def network(*, normalized: bool = True) -> Any:
    middle = [layers.BatchNormalization(name="norm")] if normalized else []
    stack = [
        tf_keras.Input((8, 8, 3), name="image"),
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        *middle,
        layers.LeakyReLU(alpha=0.2, name="leaky"),
        layers.Flatten(name="flat"),
        layers.Dense(5, name="scores"),
    ]
    return trained(tf_keras.Sequential(stack, name="legacy"))


def trained(model: Any, *callbacks: Any) -> Any:
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(SAMPLES, CLASSES, epochs=2, verbose=0, callbacks=list(callbacks))
    return model


def carrying_code() -> Any:
    stack = [tf_keras.Input((4,), name="x"), layers.Lambda(lambda tensor: tensor + 1, name="plus_one")]
    inner = tf_keras.Sequential(stack, name="inner")
    return tf_keras.Sequential([tf_keras.Input((4,), name="x"), inner, layers.Dense(2, name="scores")], name="code")


def touching_files() -> Any:
    x = tf_keras.Input((4,), name="x")

    class Reads(layers.Layer):  # type: ignore[misc]
        def call(self, tensor: Any) -> Any:
            return tensor + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)

    return tf_keras.Model(x, Reads(name="reads")(x), name="reads")


def main() -> None:
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")  # tf_keras calls its own .h5 files legacy
    tf_keras.utils.set_random_seed(0)
    model = network()
    expected = {"legacy": model(SAMPLES, training=False)}
    model.save(folder / "legacy.keras")
    model.save(folder / "legacy.h5")
    model.save(folder / "legacy_saved_model", save_format="tf")
    model.save_weights(folder / "legacy_weights.h5")
    model.export(folder / "plain_saved_model")
    pruned = trained(tfmot.sparsity.keras.prune_low_magnitude(network()), tfmot.sparsity.keras.UpdatePruningStep())
    pruned.save(folder / "pruned.h5")
    expected["pruned"] = pruned(SAMPLES, training=False)
    start = tfmot.clustering.keras.CentroidInitialization.LINEAR
    clustered = tfmot.clustering.keras.cluster_weights(network(), number_of_clusters=4, cluster_centroids_init=start)
    trained(clustered).save(folder / "clustered.h5")
    expected["clustered"] = clustered(SAMPLES, training=False)
    for name, normalized in (("quantized", False), ("quantized_with_norm", True)):
        plain = network(normalized=normalized)
        quantized = trained(tfmot.quantization.keras.quantize_model(plain))
        quantized.save(folder / f"{name}.h5")
        quantized.save(folder / f"{name}.keras")
        expected[name] = quantized(SAMPLES, training=False)
    carrying_code().save(folder / "code.h5")
    carrying_code().save(folder / "code.keras")
    carrying_code().save(folder / "code_saved_model", save_format="tf")
    touching_files().save(folder / "reads_saved_model", save_format="tf")
    np.savez(folder / "expected.npz", samples=SAMPLES, **{name: np.asarray(array) for name, array in expected.items()})


if __name__ == "__main__":
    main()
