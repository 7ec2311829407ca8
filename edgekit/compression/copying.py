"""A copy of a model that keeps its shape: nested models stay nested."""

from __future__ import annotations

from typing import Any  # Any: keras models, which have no types

from edgekit.compression.flattening import copy_state, flat, from_config
from edgekit.loading import import_keras


def copied(model: Any) -> Any:
    """A copy of a Functional or Sequential model with layers, weights and state of its own.

    Nested models stay nested and shared layers stay shared; a model whose nested models share a layer with each other
    is copied flat, because a copy of each would have a layer of its own. Raises ModelError for a layer that cannot be
    made again from its own config.
    """
    made = import_keras().models.clone_model(
        model, clone_function=lambda layer: from_config(layer, layer.get_config()), recursive=True
    )
    if [variable.shape for variable in made.variables] != [variable.shape for variable in model.variables]:
        return flat(model)
    copy_state(model, made)
    return made
