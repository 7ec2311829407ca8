"""The form that quantization wants: no nested models, BatchNormalization folded away, and activations that integer
kernels cannot fuse as layers of their own. Outputs, their names and their order stay the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any  # Any: keras layers, which have no types

import numpy as np

from edgekit.compression.flattening import copy_state, from_config, is_layer, remade, replay
from edgekit.compression.folding import foldable, folded_weights
from edgekit.compression.graph import activation_name
from edgekit.compression.grids import shares_values
from edgekit.loading import LoadedModel, import_keras

FUSED = ("linear", "relu", "relu6")  # activations that int8 kernels apply to their own output


@dataclass(frozen=True)
class Canonical:
    """A model in canonical form."""

    loaded: LoadedModel
    original_names: Mapping[str, str]  # of its layers with weights, in the model that it was made from


def canonical(loaded: LoadedModel) -> LoadedModel:
    """A copy in canonical form with the same outputs. Raises ModelError on a layer that cannot be made again."""
    return canonical_form(loaded).loaded


def canonical_form(loaded: LoadedModel, *, keep_shared: bool = False) -> Canonical:
    """The same with the names from before; `keep_shared` leaves BatchNormalization over a kernel that shares values
    where it is, because folding would give each channel values of its own.
    """
    flattened, flat_pairs = replay(loaded.model, remade)
    for old, new in flat_pairs:
        if is_layer(new):
            copy_state(old, new)
    folds = foldable(flattened)
    if keep_shared:
        folds = {name: norm for name, norm in folds.items() if not _shares(flattened.get_layer(name))}
    model, pairs = replay(flattened, _Remaking(flattened, folds).remake)
    before = {new.name: old.name for old, new in flat_pairs}
    names: dict[str, str] = {}
    for old, new in pairs:
        if isinstance(new, _Kernel):
            new.layer.set_weights(folded_weights(old, folds[old.name]) if old.name in folds else old.get_weights())
            names[new.layer.name] = before[old.name]
        elif is_layer(new):
            copy_state(old, new)
            names[new.name] = before[old.name]
    return Canonical(loaded.with_model(model), names)


class _Kernel:
    """A layer with a kernel, and its activation where that is a layer of its own."""

    def __init__(self, layer: Any, activation: Any) -> None:
        self.layer = layer
        self._activation = activation

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = self.layer(*args, **kwargs)
        return outputs if self._activation is None else self._activation(outputs)


class _Remaking:
    def __init__(self, model: Any, folds: Mapping[str, Any]) -> None:
        self._folds = folds
        self._folded_away = {norm.name for norm in folds.values()}
        self._taken = {operation.name for operation in model.operations}

    def remake(self, operation: Any, name: str) -> Any:
        if operation.name in self._folded_away:
            return _handed_on
        splits = _splits(operation)
        if not splits and operation.name not in self._folds:
            return remade(operation, name)
        config = {**operation.get_config(), "name": name}
        if operation.name in self._folds:
            config["use_bias"] = True
        if not splits:
            return _Kernel(from_config(operation, config), None)
        config.update(activation="linear", name=_free_name(name, self._taken))
        # The activation keeps the name, for the outputs' sake.
        activation = import_keras().layers.Activation(operation.activation, name=name, dtype=operation.dtype_policy)
        return _Kernel(from_config(operation, config), activation)


def _handed_on(tensor: Any, **_arguments: Any) -> Any:
    return tensor


def _free_name(name: str, taken: Collection[str]) -> str:
    """The name of a kernel whose activation became a layer of its own."""
    free = f"{name}_linear"
    while free in taken:
        free += "_"
    return free


def _splits(layer: Any) -> bool:
    layers = import_keras().layers
    convolutions = (layers.Conv1D, layers.Conv2D, layers.Conv1DTranspose, layers.Conv2DTranspose)
    depthwise = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
    kernels = (*convolutions, *depthwise, layers.Dense, layers.EinsumDense)
    return isinstance(layer, kernels) and activation_name(layer) not in FUSED


def _shares(layer: Any) -> bool:
    """True when one of the kernels of a layer holds few values."""
    return any(shares_values(np.asarray(weight)) for weight in layer.weights if len(weight.shape) > 1)
