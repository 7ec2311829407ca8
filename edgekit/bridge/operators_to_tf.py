"""Keras 3's operators in tf_keras: a plain layer where that is exact, a named TensorFlow call elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any  # Any: operators and tensors of both Kerases

import numpy as np

from edgekit.bridge.operators import BINARY, COMPARISONS, REDUCTIONS, UNARY
from edgekit.bridge.replay import Call
from edgekit.errors import ModelError

_LAYERS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_ACTIVATIONS = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Softplus": "softplus", "Softsign": "softsign",
    "Exp": "exponential", "Selu": "selu",
}  # fmt: skip

# name -> (TensorFlow function, positional arguments, keyword arguments), from the operator and its arguments
Request = tuple[str, tuple[Any, ...], dict[str, Any]]
_CALLS: dict[str, Callable[..., Request]] = {
    "Argmax": lambda o, x: ("math.argmax", (x,), {"axis": o.axis, "output_type": "int32"}),
    "Argmin": lambda o, x: ("math.argmin", (x,), {"axis": o.axis, "output_type": "int32"}),
    "BroadcastTo": lambda o, x: ("broadcast_to", (x,), {"shape": o.shape}),
    "Cast": lambda o, x: ("cast", (x, o.dtype), {}),
    "Clip": lambda o, x: ("clip_by_value", (x, o.x_min, o.x_max), {}),
    "Concatenate": lambda o, xs: ("concat", (xs,), {"axis": o.axis}),
    "Cumsum": lambda o, x: ("math.cumsum", (x,), {"axis": o.axis}),
    "Einsum": lambda o, *xs: ("einsum", (o.subscripts, *xs), {}),
    "Elu": lambda o, x: ("where", (x > 0, x, o.alpha * _expm1(x)), {}),
    "Flip": lambda o, x: ("reverse", (x,), {"axis": _axes(o.axis, x)}),
    "Gelu": lambda o, x: ("nn.gelu", (x,), {"approximate": o.approximate}),
    "GetItem": lambda _, x, key: ("__operators__.getitem", (x, tuple(key) if isinstance(key, list) else key), {}),
    "LeakyRelu": lambda o, x: ("nn.leaky_relu", (x,), {"alpha": o.negative_slope}),
    "LogSoftmax": lambda o, x: ("nn.log_softmax", (x,), {"axis": o.axis}),
    "Matmul": lambda _, x, y: ("linalg.matmul", (x, y), {}),
    "Norm": lambda o, x: (
        "norm",
        (x,),
        {"ord": o.ord or "euclidean", "axis": _norm_axis(o.axis), "keepdims": o.keepdims},
    ),
    "OneHot": lambda o, x: ("one_hot", (x, o.num_classes), {"axis": o.axis, "dtype": o.dtype}),
    "OnesLike": lambda _, x, dtype=None: ("ones_like", (x,), {"dtype": dtype or x.dtype}),
    "ZerosLike": lambda _, x, dtype=None: ("zeros_like", (x,), {"dtype": dtype or x.dtype}),
    "Repeat": lambda o, x: ("repeat", (x, o.repeats), {"axis": o.axis}),
    "Reshape": lambda o, x: ("reshape", (x, [-1 if size is None else size for size in o.newshape]), {}),
    "Roll": lambda o, x: ("roll", (x,), {"shift": o.shift, "axis": o.axis}),
    "Softmax": lambda o, x: ("nn.softmax", (x,), {"axis": o.axis}),
    "Split": lambda o, x: ("split", (x, _sizes(o, x)), {"axis": o.axis}),
    "Squeeze": lambda o, x: ("squeeze", (x,), {"axis": o.axis}),
    "Stack": lambda o, xs: ("stack", (xs,), {"axis": o.axis}),
    "StopGradient": lambda _, x: ("stop_gradient", (x,), {}),
    "Swapaxes": lambda o, x: ("transpose", (x,), {"perm": _swapped(o, x)}),
    "Take": lambda o, x, indices: ("gather", (x, indices), {"axis": o.axis}),
    "Tile": lambda o, x: ("tile", (x, _padded(o.repeats, x, 1)), {}),
    "Transpose": lambda o, x: ("transpose", (x,), {"perm": o.axes}),
    "Unstack": lambda o, x: ("unstack", (x,), {"num": o.num, "axis": o.axis}),
    "Where": lambda _, condition, x, y: ("where", (condition, x, y), {}),
}


class Operators:
    """Makes the outputs of operators on tf_keras tensors."""

    def __init__(self, keras: Any, tf_keras: Any) -> None:
        import tensorflow as tf
        from tf_keras.src.layers.core import tf_op_layer

        self._keras, self._layers, self._tf = keras, tf_keras.layers, tf
        self._op_layers = tf_op_layer

    def outputs(self, call: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        """What the operator gives. Raises ModelError when TensorFlow has no such operator."""
        operation = call.operation
        bound = inspect.signature(operation.call).bind(*args, **kwargs)
        arguments = self._cast(call, list(bound.args))
        masked = any(getattr(value, "_keras_mask", None) is not None for value in self._tf.nest.flatten(arguments))
        layer = None if masked else self._layer(operation, arguments, call)  # an operator hands no mask on
        if layer is not None:
            return layer
        function, positional, named = self._request(operation, arguments)
        return self._named_call(function, operation.name, positional, named)

    def identity(self, tensor: Any) -> Any:
        """The tensor without its mask."""
        return self._tf.identity(tensor)

    def _named_call(self, path: str, name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        function = reduce(getattr, path.split("."), self._tf)
        kind = self._op_layers.SlicingOpLambda if path.endswith("getitem") else self._op_layers.TFOpLambda
        return kind(function, name=name)(*positional, **named)

    def _cast(self, call: Call, arguments: list[Any]) -> list[Any]:
        """Keras 3 mixes dtypes, TensorFlow does not."""
        kind = type(call.operation).__name__
        if kind not in BINARY and kind not in REDUCTIONS and kind not in UNARY:
            return arguments
        wanted = str(call.outputs[0].dtype)
        if kind in COMPARISONS:
            kinds = [getattr(value, "dtype", type(value)) for value in arguments]
            wanted = self._keras.backend.result_type(*(_dtype_name(item) for item in kinds))
        if kind in ("Any", "All", "LogicalAnd", "LogicalOr", "LogicalNot"):
            return arguments
        return [self._as(value, wanted) for value in arguments]

    def _as(self, value: Any, dtype: str) -> Any:
        if value is None or isinstance(value, bool | int | float) or not hasattr(value, "dtype"):
            return value
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value, dtype)
        return value if _dtype_name(value.dtype) == dtype else self._tf.cast(value, dtype)

    def _request(self, operation: Any, arguments: Sequence[Any]) -> Request:
        kind = type(operation).__name__
        if not type(operation).__module__.startswith("keras.src.ops."):
            kind = ""  # the user's own operator may bear any name
        if kind in UNARY or kind in BINARY:
            return (UNARY | BINARY)[kind], tuple(arguments), {}
        if kind in REDUCTIONS:
            return REDUCTIONS[kind], (arguments[0],), {"axis": operation.axis, "keepdims": operation.keepdims}
        if kind == "Pad":
            return self._pad(operation, *arguments)
        if kind == "ExpandDims" and isinstance(operation.axis, int):
            return "expand_dims", tuple(arguments), {"axis": operation.axis}
        if kind not in _CALLS:
            raise ModelError(
                f"operator '{operation.name}' ({type(operation).__name__}) has no bridge to tf_keras; "
                "put it into a layer of your own and teach the bridge with edgekit.bridge.teach"
            )
        return _CALLS[kind](operation, *arguments)

    def _pad(self, operation: Any, tensor: Any, fill: Any = None) -> Request:
        pairs = [list(pair) for pair in operation.pad_width]
        pairs = pairs * tensor.shape.rank if len(pairs) == 1 else pairs
        return "pad", (tensor, pairs, operation.mode.upper()), {"constant_values": fill or 0}

    def _layer(self, operation: Any, arguments: Sequence[Any], call: Call) -> Any:
        """The outputs of a plain layer; None where no layer does exactly the same."""
        kind, name, layers = type(operation).__name__, operation.name, self._layers
        policy = _dtype_name(getattr(arguments[0], "dtype", "none"))
        if kind in _LAYERS:
            return self._arithmetic(kind, name, arguments, call)
        if kind == "Concatenate":
            return layers.Concatenate(axis=operation.axis, name=name)(arguments[0])
        if not policy.startswith(("float", "bfloat")):
            return None
        if kind in ("Relu", "Relu6"):
            return layers.ReLU(6.0 if kind == "Relu6" else None, name=name, dtype=policy)(arguments[0])
        if kind in _ACTIVATIONS:
            return layers.Activation(_ACTIVATIONS[kind], name=name, dtype=policy)(arguments[0])
        if kind == "Softmax" and isinstance(operation.axis, int):
            return layers.Softmax(operation.axis, name=name, dtype=policy)(arguments[0])
        if kind == "Negative":
            return layers.Rescaling(-1.0, name=name, dtype=policy)(arguments[0])
        return self._shaping(operation, arguments[0], policy)

    def _shaping(self, operation: Any, tensor: Any, policy: str) -> Any:
        kind, name, layers, rank = type(operation).__name__, operation.name, self._layers, tensor.shape.rank
        if kind == "Reshape" and rank > 1 and operation.newshape[0] in (-1, None) and -1 not in operation.newshape[1:]:
            rest = [-1 if size is None else size for size in operation.newshape[1:]]
            if None not in tensor.shape[1:] and int(np.prod(rest)) == int(np.prod(tensor.shape[1:])):
                return layers.Reshape(rest, name=name, dtype=policy)(tensor)
        if kind == "Transpose" and operation.axes and operation.axes[0] == 0:
            return layers.Permute(tuple(operation.axes[1:]), name=name, dtype=policy)(tensor)
        if kind in ("Mean", "Max") and rank in (3, 4):
            axes = sorted(axis % rank for axis in operation.axis or ())
            if axes == list(range(1, rank - 1)):
                stem = "Average" if kind == "Mean" else "Max"
                pooling = getattr(layers, f"Global{stem}Pooling{rank - 2}D")
                settings = {"data_format": "channels_last", "keepdims": operation.keepdims}
                return pooling(**settings, name=name, dtype=policy)(tensor)
        return None

    def _arithmetic(self, kind: str, name: str, arguments: Sequence[Any], call: Call) -> Any:
        left, right = arguments
        dtype = str(call.outputs[0].dtype)
        ranks = [getattr(getattr(value, "shape", None), "rank", None) for value in arguments]
        if ranks[0] is not None and ranks[0] == ranks[1]:  # merge layers align other ranks in their own way
            return getattr(self._layers, kind)(name=name, dtype=dtype)([left, right])
        number = right if isinstance(right, int | float) else left if isinstance(left, int | float) else None
        if number is None or kind in ("Maximum", "Minimum") or not dtype.startswith(("float", "bfloat")):
            return None
        tensor = left if number is right else right
        scale, offset = {
            "Add": (1.0, float(number)),
            "Multiply": (float(number), 0.0),
            "Subtract": (1.0, -float(number)) if number is right else (-1.0, float(number)),
        }[kind]
        return self._layers.Rescaling(scale, offset, name=name, dtype=dtype)(tensor)


def _dtype_name(dtype: Any) -> str:
    if isinstance(dtype, type) and dtype in (bool, int, float):
        return dtype.__name__
    return str(getattr(dtype, "name", dtype))


def _expm1(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.math.expm1(tensor)


def _axes(axis: Any, tensor: Any) -> list[int]:
    if axis is None:
        return list(range(tensor.shape.rank))
    return [axis] if isinstance(axis, int) else list(axis)


def _norm_axis(axis: Any) -> Any:
    return axis[0] if axis is not None and len(axis) == 1 else axis and tuple(axis)


def _swapped(operation: Any, tensor: Any) -> list[int]:
    order = list(range(tensor.shape.rank))
    order[operation.axis1], order[operation.axis2] = order[operation.axis2], order[operation.axis1]
    return order


def _padded(repeats: Any, tensor: Any, fill: int) -> list[int]:
    given = [repeats] if isinstance(repeats, int) else list(repeats)
    return [fill] * (tensor.shape.rank - len(given)) + given


def _sizes(operation: Any, tensor: Any) -> Any:
    """Keras 3 splits at indices, TensorFlow into sizes."""
    if isinstance(operation.indices_or_sections, int):
        return operation.indices_or_sections
    edges = [0, *operation.indices_or_sections, tensor.shape[operation.axis]]
    return [int(after - before) for before, after in pairwise(edges)]
