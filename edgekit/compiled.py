"""The loss that a model was compiled with, read without running code of the file."""

from __future__ import annotations

import inspect
from typing import Any  # Any: losses in all the forms that Keras takes

from edgekit.kerases import import_keras


def readable_loss(serialized: Any) -> Any:
    """A loss as `compile` takes it, out of its serialized form; None unless it is Keras's own.

    Takes what Keras 3 and tf_keras write: a name, a serialized Loss, or a list or dict of those by output.
    """
    if isinstance(serialized, str):
        return serialized if hasattr(import_keras().losses, serialized) else _by_name(serialized)
    if isinstance(serialized, list):
        return _whole([readable_loss(item) for item in serialized])
    if not isinstance(serialized, dict):
        return None
    if "class_name" not in serialized:
        found = {name: readable_loss(item) for name, item in serialized.items()}
        return _whole(list(found.values())) and found
    return _by_class(str(serialized["class_name"]), serialized.get("config"))


def serialized_loss(loss: Any) -> Any:
    """JSON for a loss that is Keras's own; None for any other."""
    losses = import_keras().losses
    if isinstance(loss, list | tuple):
        return _whole([serialized_loss(item) for item in loss])
    if isinstance(loss, dict):
        found = {name: serialized_loss(item) for name, item in loss.items()}
        return _whole(list(found.values())) and found
    if isinstance(loss, str):
        return loss
    if isinstance(loss, losses.Loss) and getattr(losses, type(loss).__name__, None) is type(loss):
        return {"class_name": type(loss).__name__, "config": loss.get_config()}
    return None


def _by_name(name: str) -> str | None:
    """Short names such as 'mse', which are no attributes of keras.losses."""
    try:
        import_keras().losses.get(name)
    except ValueError:
        return None
    return name


def _by_class(class_name: str, config: Any) -> Any:
    losses = import_keras().losses
    kind = getattr(losses, class_name, None)
    if class_name == "function" and isinstance(config, str):
        return readable_loss(config)
    if not isinstance(kind, type) or not issubclass(kind, losses.Loss) or not isinstance(config, dict):
        return None
    accepted = inspect.signature(kind).parameters
    plain = {
        key: value
        for key, value in config.items()
        if key in accepted and isinstance(value, str | int | float | bool) and (key, value) != ("reduction", "auto")
    }
    return kind(**plain)


def _whole(items: list[Any]) -> list[Any] | None:
    return None if any(item is None for item in items) else items
