"""Write the SavedModels that the converter tests convert: `python make_models.py FOLDER`.

They look like what the core hands over: signatures `fixed` and `dynamic` under Keras names, a float model, and a
trained one with asymmetric fake-quantized activations and symmetric narrow-range fake-quantized kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

Tensors = Mapping[str, tf.Tensor]
Forward = Callable[["Net", Tensors], Tensors]


class Net(tf.Module):
    """Named kernels and biases; fake-quantizes them and the activations when `trained`."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], ranges: Mapping[str, tuple[float, float]] | None) -> None:
        super().__init__()
        rng = np.random.default_rng(7)
        self.trained = ranges is not None
        self.ranges = dict(ranges or {})
        self.observed: dict[str, tuple[float, float]] = {}
        self.kernels: dict[str, tf.Variable] = {}
        self.biases: dict[str, tf.Variable] = {}
        self.peaks: dict[str, np.ndarray] = {}
        for name, shape in shapes.items():
            width = float(np.sqrt(2.0 / np.prod(shape[:-1]))) if "depth" not in name else 0.4
            kernel = rng.normal(0, width, shape).astype("float32")
            peak = np.abs(kernel).max(axis=axes(name), keepdims=True)
            self.peaks[name] = peak.reshape(-1) if peak.size > 1 else peak.reshape(())
            self.kernels[name] = tf.Variable(on_grid(kernel, peak) if self.trained else kernel)
            channels = shape[2] * shape[3] if "depth" in name else shape[-1]
            self.biases[name] = tf.Variable(rng.normal(0, 0.1, channels).astype("float32"))

    def kernel(self, name: str) -> tf.Tensor:
        value = tf.convert_to_tensor(self.kernels[name])
        if not self.trained:
            return value
        peak = self.peaks[name]
        if not peak.shape:
            return tf.quantization.fake_quant_with_min_max_vars(value, -peak, peak, narrow_range=True)
        flat = tf.reshape(value, (*value.shape[:2], -1)) if "depth" in name else value
        faked = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -peak, peak, narrow_range=True)
        return tf.reshape(faked, value.shape)

    def activation(self, name: str, value: tf.Tensor) -> tf.Tensor:
        if self.trained:
            low, high = self.ranges[name]
            return tf.quantization.fake_quant_with_min_max_vars(value, low, high)
        if tf.executing_eagerly():
            low, high = min(0.0, float(tf.reduce_min(value))), float(tf.reduce_max(value))
            self.observed[name] = (low, high)
        return value

    def conv(self, name: str, value: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(value, self.kernel(name), 1, "SAME") + self.biases[name]

    def depthwise(self, name: str, value: tf.Tensor) -> tf.Tensor:
        return tf.nn.depthwise_conv2d(value, self.kernel(name), (1, 1, 1, 1), "SAME") + self.biases[name]

    def dense(self, name: str, value: tf.Tensor) -> tf.Tensor:
        return tf.matmul(value, self.kernel(name)) + self.biases[name]


def axes(name: str) -> tuple[int, ...] | None:
    """The axes that share a scale, by the kernel's name; TFLite's converter wants one scale for a Dense kernel."""
    return None if "dense" in name else (0, 1) if "depth" in name else (0, 1, 2)


def on_grid(kernel: np.ndarray, peak: np.ndarray) -> np.ndarray:
    scale = peak / np.float32(127)
    return (np.rint(kernel / scale) * scale).astype("float32")


def classifier(net: Net, given: Tensors) -> Tensors:
    x = net.activation("image", given["image"])
    x = net.activation("relu", tf.nn.relu(net.conv("conv", x)))
    x = net.activation("relu_depth", tf.nn.relu6(net.depthwise("depth", x)))
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = net.activation("pooled", tf.reduce_mean(x, (1, 2)))
    x = net.activation("hidden", net.dense("dense_hidden", x))
    x = net.activation("logits", net.dense("dense_logits", x))
    return {"probabilities": net.activation("probabilities", tf.nn.softmax(x))}


def grouped(net: Net, given: Tensors) -> Tensors:
    """Groups of channels, and several outputs for each channel."""
    x = net.activation("image", given["image"])
    x = net.activation("relu", tf.nn.relu(net.conv("conv", x)))
    x = net.activation("depth", net.depthwise("depth", x))
    return {"scores": net.activation("scores", net.dense("dense", tf.reshape(x, (-1, 5 * 5 * 16))))}


def pair(net: Net, given: Tensors) -> Tensors:
    left, right = net.activation("b_left", given["b_left"]), net.activation("a_right", given["a_right"])
    left = net.activation("left", tf.nn.relu(net.dense("dense_left", left)))
    right = net.activation("right", tf.nn.relu(net.dense("dense_right", right)))
    both = net.activation("both", tf.concat([left, right], axis=-1))
    score = net.activation("z_score", net.dense("dense_score", both))
    return {"z_score": score, "a_sum": net.activation("a_sum", left + right)}


def unsupported(net: Net, given: Tensors) -> Tensors:
    """Has an operator that neither TFLite's builtins nor ONNX have, behind an exact GELU, which both have."""
    x = tf.nn.gelu(net.activation("x", given["x"]))
    return {"y": tf.math.betainc(x, x, x)}


def mixing(net: Net, given: Tensors) -> Tensors:
    """Each sample's output depends on the others of its batch."""
    x = net.activation("x", given["x"])
    return {"y": x - tf.reduce_mean(x, 0, keepdims=True)}


CASES: dict[str, tuple[Forward, dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
    "classifier": (
        classifier,
        {"image": (12, 12, 1)},
        {"conv": (3, 3, 1, 8), "depth": (3, 3, 8, 1), "dense_hidden": (8, 16), "dense_logits": (16, 10)},
    ),
    "grouped": (
        grouped,
        {"image": (5, 5, 4)},
        {"conv": (1, 1, 2, 8), "depth": (3, 3, 8, 2), "dense": (400, 3)},
    ),
    "pair": (
        pair,
        {"b_left": (6,), "a_right": (5,)},
        {"dense_left": (6, 8), "dense_right": (5, 8), "dense_score": (16, 3)},
    ),
    "unsupported": (unsupported, {"x": (4,)}, {}),
    "mixing": (mixing, {"x": (4,)}, {}),
}


def save(net: Net, forward: Forward, inputs: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    def signature(batch: int | None) -> tf.types.experimental.ConcreteFunction:
        specs = {name: tf.TensorSpec((batch, *shape), name=name) for name, shape in inputs.items()}
        return tf.function(lambda **given: forward(net, given), autograph=False).get_concrete_function(**specs)

    tf.saved_model.save(net, str(folder), signatures={"fixed": signature(1), "dynamic": signature(None)})


def make(case: str, folder: Path) -> None:
    """`float/`, `trained/` and `reference.npz`: samples, and the outputs of the float and of the simulated model."""
    forward, inputs, kernels = CASES[case]
    rng = np.random.default_rng(3)
    samples = {name: rng.uniform(-0.5, 1, (64, *shape)).astype("float32") for name, shape in inputs.items()}
    given = {name: tf.constant(value) for name, value in samples.items()}
    plain = Net(kernels, None)
    expected = forward(plain, given)
    ranges = {**plain.observed, "probabilities": (0.0, 255 / 256)}
    trained = Net(kernels, ranges)
    simulated = forward(trained, given)
    save(plain, forward, inputs, folder / "float")
    save(trained, forward, inputs, folder / "trained")
    np.savez(
        folder / "reference.npz",
        **{f"inputs/{name}": value for name, value in samples.items()},
        **{f"float/{name}": value.numpy() for name, value in expected.items()},
        **{f"trained/{name}": value.numpy() for name, value in simulated.items()},
    )


if __name__ == "__main__":
    for name in CASES:
        target = Path(sys.argv[1], name)
        target.mkdir(parents=True)
        make(name, target)
