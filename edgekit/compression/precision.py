"""Mixed precision: half-precision arithmetic on float32 weights while a model trains (Micikevicius et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any  # Any: keras models and optimizers, which have no types

POLICY = "mixed_float16"


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def computing_in_half(model: Any, on: bool) -> Iterator[None]:
    """While it lasts, the layers of `model` compute in float16; those that make its outputs stay in float32.

    Layers that have a policy of their own keep it, and all have their own again afterwards.
    """
    ends = {id(tensor._keras_history.operation) for tensor in model.outputs}
    layers = [layer for layer in model._flatten_layers(include_self=False) if id(layer) not in ends] if on else []
    changed = [layer for layer in layers if layer.dtype_policy.name == "float32"]
    before = [layer.dtype_policy for layer in changed]
    try:
        for layer in changed:
            layer.dtype_policy = POLICY
        yield
    finally:
        for layer, policy in zip(changed, before, strict=True):
            layer.dtype_policy = policy
