"""Operators that are the same function of the same tensors in both: Keras 3's class and TensorFlow's path."""

from __future__ import annotations

import re

UNARY = {
    "Abs": "math.abs", "Absolute": "math.abs", "Arccos": "math.acos", "Arcsin": "math.asin", "Arctan": "math.atan",
    "Ceil": "math.ceil", "Cos": "math.cos", "Cosh": "math.cosh", "Erf": "math.erf", "Exp": "math.exp",
    "Expm1": "math.expm1", "Floor": "math.floor", "Log": "math.log", "Log1p": "math.log1p",
    "LogicalNot": "math.logical_not", "LogSigmoid": "math.log_sigmoid", "Negative": "math.negative",
    "Reciprocal": "math.reciprocal", "Relu": "nn.relu", "Relu6": "nn.relu6", "Round": "math.round",
    "Rsqrt": "math.rsqrt", "Selu": "nn.selu", "Sigmoid": "math.sigmoid", "Sign": "math.sign", "Silu": "nn.silu",
    "Sin": "math.sin", "Sinh": "math.sinh", "Softplus": "math.softplus", "Softsign": "nn.softsign", "Sqrt": "math.sqrt",
    "Square": "math.square", "Tan": "math.tan", "Tanh": "math.tanh",
}  # fmt: skip

COMPARISONS = {
    "Equal": "math.equal", "Greater": "math.greater", "GreaterEqual": "math.greater_equal", "Less": "math.less",
    "LessEqual": "math.less_equal", "NotEqual": "math.not_equal",
}  # fmt: skip

BINARY = COMPARISONS | {
    "Add": "math.add", "Arctan2": "math.atan2", "Divide": "math.truediv", "DivideNoNan": "math.divide_no_nan",
    "FloorDivide": "math.floordiv", "LogicalAnd": "math.logical_and", "LogicalOr": "math.logical_or",
    "Maximum": "math.maximum", "Minimum": "math.minimum", "Mod": "math.floormod", "Multiply": "math.multiply",
    "Power": "math.pow", "Subtract": "math.subtract", "TrueDivide": "math.truediv",
}  # fmt: skip

REDUCTIONS = {  # those with `axis` and `keepdims`
    "All": "math.reduce_all", "Any": "math.reduce_any", "Logsumexp": "math.reduce_logsumexp", "Max": "math.reduce_max",
    "Mean": "math.reduce_mean", "Min": "math.reduce_min", "Prod": "math.reduce_prod", "Std": "math.reduce_std",
    "Sum": "math.reduce_sum", "Var": "math.reduce_variance",
}  # fmt: skip


def ops_name(kind: str) -> str:
    """The function of keras.ops that makes an operator: 'GreaterEqual' -> 'greater_equal'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
