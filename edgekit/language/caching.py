"""A decoder that goes on where it stopped: keys and values of earlier tokens are kept, not computed again.

The graph is the model's own, whatever compression made of it; only its RotaryAttention layers take and give caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any  # Any: Keras models and tensors, which have no types

from edgekit.errors import ModelError

Caches = Mapping[str, tuple[Any, Any]]  # layer -> (keys, values)


@dataclass(frozen=True)
class CacheShape:
    """What one attention layer keeps."""

    layer: str
    groups: int
    size: int  # of a head


def cache_shapes(model: Any) -> tuple[CacheShape, ...]:
    """One for each RotaryAttention layer, in order. Raises ModelError where there is none."""
    from edgekit.language.layers import RotaryAttention

    found = tuple(
        CacheShape(layer.name, layer.groups, layer.size) for layer in model.layers if isinstance(layer, RotaryAttention)
    )
    if not found:
        raise ModelError(
            f"'{model.name}' has no RotaryAttention layer, so that nothing can be kept from token to token"
        )
    return found


def step(model: Any, tokens: Any, position: Any, caches: Caches) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """(the model's output, new caches) of tokens (batch, length) that follow on `position` others, an int32 scalar.

    Caches are (batch, groups, capacity, size) each, of which the first `position` places count.
    """
    kept = dict(caches)

    def operation(layer: Any) -> Any:
        if layer.name not in kept:
            return layer

        def attend(x: Any, **_options: Any) -> Any:
            outputs, *kept_now = layer.step(x, position, *kept[layer.name])
            kept[layer.name] = (kept_now[0], kept_now[1])
            return outputs

        return attend

    outputs = model._run_through_graph([tokens], operation_fn=operation)
    return outputs, kept
