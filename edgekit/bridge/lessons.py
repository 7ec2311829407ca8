"""Layers of the user's own, which the bridge learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any  # Any: layer classes and their settings

from edgekit.errors import ConfigError

Settings = Callable[[dict[str, Any]], Mapping[str, Any]]

_lessons: list[Lesson] = []


@dataclass(frozen=True)
class Lesson:
    """Two layer classes that do the same, and how one's settings are the other's."""

    keras_layer: type[Any]
    tf_keras_layer: type[Any]
    settings: Settings
    back: Settings


def teach(
    keras_layer: type[Any],
    tf_keras_layer: type[Any],
    *,
    settings: Settings | None = None,
    back: Settings | None = None,
) -> None:
    """Tell the bridge that a Keras 3 layer class and a tf_keras layer class of your own do the same.

    `settings` turns `get_config()` of the Keras 3 layer into keyword arguments of the tf_keras class, `back` the other
    way; by default the same names mean the same. `name`, `trainable` and `dtype` need no word. Weights are copied in
    order, so both layers must make them in the same order and shapes. The last word on a class counts.
    Raises ConfigError when an argument is not a class.
    """
    for kind in (keras_layer, tf_keras_layer):
        if not isinstance(kind, type):
            raise ConfigError(f"teach: expected a layer class, got {kind!r}; pass the class, not a layer")
    _lessons.insert(0, Lesson(keras_layer, tf_keras_layer, settings or _unchanged, back or _unchanged))


def lesson_of(layer: Any) -> Lesson | None:
    """What was taught about the layer's class, of either Keras."""
    return next((item for item in _lessons if type(layer) in (item.keras_layer, item.tf_keras_layer)), None)


def _unchanged(config: dict[str, Any]) -> Mapping[str, Any]:
    return config
