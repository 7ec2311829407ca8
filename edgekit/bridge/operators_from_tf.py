"""TensorFlow calls of a tf_keras graph (TFOpLambda, SlicingOpLambda) as keras.ops."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any  # Any: operators and tensors of both Kerases

import numpy as np

from edgekit.bridge.operators import BINARY, REDUCTIONS, UNARY, ops_name
from edgekit.errors import ModelError

_PLAIN = {path: ops_name(kind) for kind, path in (UNARY | BINARY).items() if kind not in ("Abs", "Divide")} | {
    "__operators__.add": "add",
    "compat.v1.floor_div": "floor_divide",
    "math.acosh": "arccosh",
    "math.add_n": "add_n",
    "math.pow": "power",
    "math.sigmoid": "sigmoid",
    "nn.swish": "silu",
    "math.squared_difference": "squared_difference",
}
_REDUCTIONS = {path: ops_name(kind) for kind, path in REDUCTIONS.items()}

Arguments = Mapping[str, Any]
# path -> keras.ops out of the call's arguments by name
_CALLS: dict[str, Callable[[Any, Arguments], Any]] = {
    "broadcast_to": lambda ops, a: ops.broadcast_to(a["input"], _shape(a["shape"])),
    "cast": lambda ops, a: ops.cast(a["x"], _dtype(a["dtype"])),
    "clip_by_value": lambda ops, a: ops.clip(a["t"], a["clip_value_min"], a["clip_value_max"]),
    "compat.v1.gather": lambda ops, a: _gather(ops, a),
    "compat.v1.pad": lambda ops, a: _pad(ops, a["tensor"], a["paddings"], a["mode"], a["constant_values"]),
    "compat.v1.shape": lambda _, a: Shape(tuple(a["input"].shape)),
    "compat.v1.squeeze": lambda ops, a: ops.squeeze(a["input"], a["axis"]),
    "compat.v1.transpose": lambda ops, a: ops.transpose(a["a"], a["perm"]),
    "concat": lambda ops, a: ops.concatenate(a["values"], a["axis"]),
    "einsum": lambda ops, a: ops.einsum(a["equation"], *a["inputs"]),
    "expand_dims": lambda ops, a: ops.expand_dims(a["input"], a["axis"]),
    "gather": lambda ops, a: _gather(ops, a),
    "identity": lambda ops, a: ops.copy(a["input"]),
    "image.resize": lambda ops, a: _resize(ops, a),
    "linalg.matmul": lambda ops, a: _matmul(ops, a),
    "linalg.matrix_transpose": lambda ops, a: ops.swapaxes(a["a"], -2, -1),
    "linalg.l2_normalize": lambda ops, a: _l2_normalize(ops, a),
    "math.l2_normalize": lambda ops, a: _l2_normalize(ops, a),
    "math.argmax": lambda ops, a: ops.cast(ops.argmax(a["input"], a["axis"]), _dtype(a["output_type"])),
    "math.argmin": lambda ops, a: ops.cast(ops.argmin(a["input"], a["axis"]), _dtype(a["output_type"])),
    "math.cumsum": lambda ops, a: ops.cumsum(a["x"], a["axis"]),
    "nn.elu": lambda ops, a: ops.elu(a["features"]),
    "nn.gelu": lambda ops, a: ops.gelu(a["features"], approximate=bool(a["approximate"])),
    "nn.leaky_relu": lambda ops, a: ops.leaky_relu(a["features"], a["alpha"]),
    "nn.log_softmax": lambda ops, a: ops.log_softmax(a["logits"], -1 if a["axis"] is None else a["axis"]),
    "nn.relu": lambda ops, a: ops.relu(a["features"]),
    "nn.silu": lambda ops, a: _silu(ops, a),
    "nn.softmax": lambda ops, a: ops.softmax(a["logits"], -1 if a["axis"] is None else a["axis"]),
    "norm": lambda ops, a: _norm(ops, a),
    "one_hot": lambda ops, a: _one_hot(ops, a),
    "ones_like": lambda ops, a: ops.ones_like(a["input"], dtype=_dtype(a["dtype"])),
    "zeros_like": lambda ops, a: ops.zeros_like(a["input"], dtype=_dtype(a["dtype"])),
    "repeat": lambda ops, a: ops.repeat(a["input"], a["repeats"], a["axis"]),
    "reshape": lambda ops, a: ops.reshape(a["tensor"], _shape(a["shape"])),
    "reverse": lambda ops, a: ops.flip(a["tensor"], _list(a["axis"])),
    "roll": lambda ops, a: ops.roll(a["input"], a["shift"], a["axis"]),
    "shape": lambda _, a: Shape(tuple(a["input"].shape)),
    "split": lambda ops, a: ops.split(a["value"], _edges(a["num_or_size_splits"]), a["axis"]),
    "squeeze": lambda ops, a: ops.squeeze(a["input"], a["axis"]),
    "stack": lambda ops, a: _stack(ops, a),
    "stop_gradient": lambda ops, a: ops.stop_gradient(a["input"]),
    "tile": lambda ops, a: ops.tile(a["input"], _list(a["multiples"])),
    "transpose": lambda ops, a: ops.transpose(a["a"], a["perm"]),
    "unstack": lambda ops, a: ops.unstack(a["value"], a["num"], a["axis"]),
    "where": lambda ops, a: ops.where(a["condition"], a["x"], a["y"]),
}
_CALLS |= {"pad": _CALLS["compat.v1.pad"], "norm": _CALLS["norm"], "linalg.norm": _CALLS["norm"]}


@dataclass(frozen=True)
class Shape:
    """What `tf.shape` gives, or `tf.stack` puts together: None where the size is dynamic."""

    sizes: tuple[int | None, ...]

    def __getitem__(self, key: Any) -> Any:
        found = self.sizes[key]
        return Shape(found) if isinstance(found, tuple) else found


class Operators:
    """Makes the outputs of TensorFlow calls on Keras 3 tensors; only slicing, stacking and reshaping take shapes."""

    def __init__(self, keras: Any) -> None:
        self._keras, self._ops = keras, keras.ops

    def outputs(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What the call gives. Raises ModelError when keras.ops has no such operator."""
        path = getattr(layer, "symbol", None) or type(layer).__name__
        if path == "__operators__.getitem":
            tensor, key = args
            return tensor[_key(key)]
        if path not in _CALLS and path not in _PLAIN and path not in _REDUCTIONS:
            raise ModelError(
                f"layer '{layer.name}': the TensorFlow call {path} has no bridge to Keras 3; "
                "put it into a layer of your own and teach the bridge with edgekit.bridge.teach"
            )
        bound = inspect.signature(layer.function).bind(*args, **kwargs)
        bound.apply_defaults()
        if path in _REDUCTIONS:
            tensor, axis, keepdims = (bound.arguments[name] for name in ("input_tensor", "axis", "keepdims"))
            return getattr(self._ops, _REDUCTIONS[path])(tensor, axis=_axis(axis), keepdims=bool(keepdims))
        if path in _CALLS:
            return _CALLS[path](self._ops, bound.arguments)
        return self._plain(_PLAIN[path], bound)

    def _plain(self, name: str, bound: inspect.BoundArguments) -> Any:
        tensors = [value for key, value in bound.arguments.items() if key != "name"]
        if name == "add_n":
            first, *rest = tensors[0]
            return sum(rest, first)
        first = next(value for value in tensors if isinstance(value, self._keras.KerasTensor))
        tensors = [_like(value, first) for value in tensors[: 2 if len(tensors) > 1 else 1]]
        if name == "squared_difference":
            return self._ops.square(self._ops.subtract(*tensors))
        return getattr(self._ops, name)(*tensors)


def _like(value: Any, tensor: Any) -> Any:
    """A constant in the tensor's dtype, as TensorFlow takes it; numbers stay numbers."""
    if isinstance(value, np.ndarray | list | tuple):
        array = np.asarray(value, str(tensor.dtype))
        return array if array.ndim else array.item()
    return value


def _key(key: Any) -> Any:
    parts = key if isinstance(key, tuple | list) else (key,)
    made = tuple(slice(part["start"], part["stop"], part["step"]) if isinstance(part, dict) else part for part in parts)
    return made[0] if len(made) == 1 else made


def _shape(shape: Any) -> tuple[int, ...]:
    """One dynamic size is what reshaping finds out by itself."""
    given = shape.sizes if isinstance(shape, Shape) else np.asarray(shape, object).tolist()
    sizes = tuple(-1 if size is None else int(size) for size in given)
    if sizes.count(-1) > 1:
        raise ModelError(f"a TensorFlow reshape to {sizes} has more than one dynamic size; give the sizes as numbers")
    return sizes


def _list(value: Any) -> list[int]:
    return [int(item) for item in np.atleast_1d(np.asarray(value)).tolist()]


def _axis(axis: Any) -> Any:
    return axis if axis is None else (_list(axis)[0] if np.ndim(axis) == 0 else tuple(_list(axis)))


def _dtype(dtype: Any) -> Any:
    return dtype if dtype is None or isinstance(dtype, str) else str(dtype.name)


def _edges(sizes: Any) -> Any:
    """TensorFlow splits into sizes, Keras 3 at indices."""
    return sizes if isinstance(sizes, int) else [int(edge) for edge in np.cumsum(sizes)[:-1]]


def _gather(ops: Any, a: Arguments) -> Any:
    if a["batch_dims"]:
        raise ModelError("the TensorFlow call tf.gather with batch_dims has no bridge to Keras 3; use keras.ops.take")
    return ops.take(a["params"], a["indices"], axis=0 if a["axis"] is None else a["axis"])


def _pad(ops: Any, tensor: Any, pairs: Any, mode: str, fill: Any) -> Any:
    widths = [tuple(_list(pair)) for pair in pairs]
    if mode.lower() == "constant":
        return ops.pad(tensor, widths, mode="constant", constant_values=fill or 0)
    return ops.pad(tensor, widths, mode=mode.lower())


def _resize(ops: Any, a: Arguments) -> Any:
    method = getattr(a["method"], "value", a["method"])
    if a["preserve_aspect_ratio"] or method not in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5", "area"):
        raise ModelError(f"the TensorFlow call tf.image.resize with {method} has no bridge to Keras 3; use Resizing")
    size = tuple(_list(a["size"]))
    return ops.image.resize(a["images"], size, interpolation=method, antialias=a["antialias"])


def _matmul(ops: Any, a: Arguments) -> Any:
    left = ops.swapaxes(a["a"], -2, -1) if a["transpose_a"] or a["adjoint_a"] else a["a"]
    right = ops.swapaxes(a["b"], -2, -1) if a["transpose_b"] or a["adjoint_b"] else a["b"]
    return ops.matmul(left, right)


def _l2_normalize(ops: Any, a: Arguments) -> Any:
    squares = ops.sum(ops.square(a["x"]), axis=_axis(a["axis"]), keepdims=True)
    return a["x"] * ops.rsqrt(ops.maximum(squares, a["epsilon"]))


def _silu(ops: Any, a: Arguments) -> Any:
    return ops.silu(a["features"]) if a["beta"] == 1.0 else a["features"] * ops.sigmoid(a["beta"] * a["features"])


def _norm(ops: Any, a: Arguments) -> Any:
    order = None if a["ord"] == "euclidean" else a["ord"]
    return ops.norm(a["tensor"], ord=order, axis=_axis(a["axis"]), keepdims=bool(a["keepdims"]))


def _one_hot(ops: Any, a: Arguments) -> Any:
    if a["on_value"] not in (None, 1) or a["off_value"] not in (None, 0):
        raise ModelError("the TensorFlow call tf.one_hot with other values than 1 and 0 has no bridge to Keras 3")
    return ops.one_hot(a["indices"], a["depth"], axis=-1 if a["axis"] is None else a["axis"], dtype=_dtype(a["dtype"]))


def _stack(ops: Any, a: Arguments) -> Any:
    values = a["values"]
    if all(value is None or isinstance(value, int | np.integer) for value in values):
        return Shape(tuple(values))
    return ops.stack(values, axis=a["axis"])
