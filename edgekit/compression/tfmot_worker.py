"""The process in which TFMOT runs; started by `tfmot.py` with TF_USE_LEGACY_KERAS=1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any  # Any: tf_keras objects and JSON

import numpy as np

from edgekit import workers
from edgekit.loading import load


def main(request: dict[str, Any]) -> dict[str, object]:
    """Run one step on `folder/model.keras` and `folder/data.npz`; weights go to `folder/weights.npz`."""
    import tf_keras

    from edgekit.bridge import to_tf_keras

    tf_keras.utils.set_random_seed(request["seed"])
    folder = Path(request["folder"])
    model = to_tf_keras(load(folder / "model.keras"))
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        columns = [arrays[f"x{index}"] for index in range(len(model.inputs))]
        labels = arrays["y"]
    steps = request["epochs"] * -(-len(labels) // request["batch_size"])
    run = prune if request["step"] == "prune" else quantize_aware
    weights, ranges = run(model, columns, labels, steps, request)
    np.savez(folder / "weights.npz", **{f"{name}:{i}": w for name, ws in weights.items() for i, w in enumerate(ws)})
    return {"counts": {name: len(arrays) for name, arrays in weights.items()}, "ranges": ranges}


def prune(
    model: Any, columns: list[Any], labels: Any, steps: int, request: dict[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """prune_low_magnitude on the requested layers, then stripped."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparsity = tfmot.sparsity.keras
    if request["schedule"] == "constant":
        schedule = sparsity.ConstantSparsity(request["sparsity"], begin_step=0, frequency=1)
    else:
        ramp = max(1, int(steps * request["ramp"]))
        schedule = sparsity.PolynomialDecay(0.0, request["sparsity"], 0, ramp, frequency=max(1, ramp // 30))

    def wrap(layer: Any) -> Any:
        copy = type(layer).from_config(layer.get_config())
        wanted = layer.name in request["layers"]
        return sparsity.prune_low_magnitude(copy, pruning_schedule=schedule) if wanted else copy

    wrapped = tf_keras.models.clone_model(model, clone_function=wrap)
    for layer in wrapped.layers:
        inner = layer.layer if layer.name.startswith("prune_low_magnitude_") else layer
        inner.set_weights(model.get_layer(inner.name).get_weights())
    _fit(wrapped, columns, labels, steps, request, [sparsity.UpdatePruningStep()])
    return _weights(sparsity.strip_pruning(wrapped)), {}


def quantize_aware(
    model: Any, columns: list[Any], labels: Any, steps: int, request: dict[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """quantize_apply with the default 8-bit scheme that keeps zeros."""
    import tensorflow_model_optimization as tfmot

    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    quantized = tfmot.quantization.keras.quantize_apply(annotated, scheme)
    _begin_with(quantized, request["ranges"])
    _fit(quantized, columns, labels, steps, request, [])
    return _quantized_weights(quantized), _ranges(quantized)


def _fit(
    model: Any, columns: list[Any], labels: Any, steps: int, request: dict[str, Any], callbacks: list[Any]
) -> None:
    import tf_keras

    rate = tf_keras.optimizers.schedules.CosineDecay(request["learning_rate"], steps)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=request["from_logits"])
    model.compile(optimizer=tf_keras.optimizers.legacy.Adam(rate), loss=loss)
    model.fit(
        columns, labels, batch_size=request["batch_size"], epochs=request["epochs"], verbose=0, callbacks=callbacks
    )


def _weights(model: Any) -> dict[str, list[Any]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _quantized_weights(model: Any) -> dict[str, list[Any]]:
    """The float weights under the original layers' names: what the optimizer trained, not its rounded copy."""
    found = {}
    for wrapper in _wrappers(model):
        trained = {weight.name.split("/")[-1].split(":")[0]: weight for weight in wrapper.trainable_weights}
        if trained:
            names = [name for name in ("kernel", "depthwise_kernel", "bias") if name in trained]
            found[wrapper.layer.name] = [trained[name].numpy() for name in names]
    return found


def _ranges(model: Any) -> dict[str, Any]:
    """Layer name -> trained (min, max) of its output; the input layer's under the input's name."""
    return {name: (float(low), float(high)) for name, low, high in _range_variables(model)}


def _begin_with(model: Any, ranges: dict[str, Any]) -> None:
    for name, low, high in _range_variables(model):
        if name in ranges:
            low.assign(ranges[name][0])
            high.assign(ranges[name][1])


def _range_variables(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(layer or input name, its min variable, its max variable)."""
    for layer in model.layers:
        scalars = [weight for weight in layer.weights if weight.shape.rank == 0]
        variables = {weight.name.split("/")[-1].split(":")[0]: weight for weight in scalars}
        for prefix in ("post_activation", "output", "quantize_layer"):
            if f"{prefix}_min" in variables:
                name = model.inputs[0].name if prefix == "quantize_layer" else layer.layer.name
                yield name, variables[f"{prefix}_min"], variables[f"{prefix}_max"]


def _wrappers(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith("quant_")]


if __name__ == "__main__":
    workers.serve(main)
