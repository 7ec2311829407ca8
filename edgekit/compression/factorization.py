"""Factorization: a kernel becomes the product of two thin ones, two layers in the place of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras layers, models and tensors, which have no types

import numpy as np

from edgekit.compression.flattening import copy_state, flat, from_config, is_layer, remade, replay
from edgekit.compression.kernels import Kernel
from edgekit.compression.ranks import Spectrum, least_weights, ranks_within
from edgekit.compression.selection import select_kernels
from edgekit.compression.steps import Factorize
from edgekit.compression.training import Training, train_on_task
from edgekit.errors import ConfigError
from edgekit.loading import LoadedModel, Note, import_keras
from edgekit.tensors import Array
from edgekit.wording import counted

SUFFIX = "_inner"  # of the first factor's name; the last one keeps the layer's


def factorize(loaded: LoadedModel, step: Factorize, training: Training) -> LoadedModel:
    """Factorize the kernels of a flat copy of the model, and fine-tune it unless `step.epochs` is 0.

    The product of the two factors is the best approximation of the kernel of that rank (Eckart & Young 1936). Raises
    ModelError when no kernel can be factorized, ConfigError when a budget cannot be reached, DataError when data is
    needed and missing.
    """
    model = flat(loaded.model)
    chosen, notes = select_kernels(step, model, unfit)
    decomposed = {kernel.name: np.linalg.svd(kernel.read(), full_matrices=False) for kernel, _ in chosen}
    spectra = {kernel.name: Spectrum(kernel.rows, kernel.columns, decomposed[kernel.name].S) for kernel, _ in chosen}
    ranks = _ranks(step, chosen, spectra, model)
    factors = {
        id(kernel.layer): _Factors(kernel, _split(decomposed[kernel.name], ranks[kernel.name]), _names(model))
        for kernel, _ in chosen
        if ranks[kernel.name]
    }
    thinner = _rebuilt(model, factors)
    train_on_task(thinner, loaded, step, training, f"factorize to {thinner.count_params():,} parameters")
    notes.extend(_rank_note(kernel.name, own, spectra[kernel.name], ranks[kernel.name]) for kernel, own in chosen)
    became = f"{loaded.parameters:,} parameters became {thinner.count_params():,}"
    reached = f"{counted(len(factors), 'kernel')} factorized: {became}"
    return loaded.with_model(thinner).with_notes([*notes, Note("factorize", "", reached)])


class _Factors:
    """Two layers that are called as one; their weights are set by `fill`."""

    def __init__(self, kernel: Kernel, matrices: tuple[Array, Array], taken: set[str]) -> None:
        self._kernel = kernel.layer
        self._matrices = matrices
        rank = matrices[0].shape[1]
        self._layers = (_first(kernel.layer, _free(kernel.layer.name, taken), rank), _last(kernel.layer))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first, last = self._layers
        return last(first(*args, **kwargs))

    def fill(self) -> None:
        """Set the weights, once both layers are built."""
        for layer, matrix in zip(self._layers, self._matrices, strict=True):
            table = layer.embeddings if hasattr(layer, "embeddings") else layer.kernel
            table.assign(matrix.reshape(table.shape))
        if getattr(self._kernel, "bias", None) is not None:
            self._layers[1].bias.assign(self._kernel.bias)


def _rebuilt(model: Any, factors: Mapping[int, _Factors]) -> Any:
    """The model with factors in the place of some of its layers."""

    def remake(operation: Any, name: str) -> Any:
        return factors.get(id(operation)) or remade(operation, name)

    made, pairs = replay(model, remake)
    for old, new in pairs:
        if isinstance(new, _Factors):
            new.fill()
        elif is_layer(new):
            copy_state(old, new)
    return made


def _first(layer: Any, name: str, rank: int) -> Any:
    """The factor next to the inputs: it has the original's window, and neither bias nor activation."""
    layers = import_keras().layers
    common = {"name": name, "dtype": layer.dtype_policy}
    if isinstance(layer, layers.Embedding):
        return layers.Embedding(layer.input_dim, rank, mask_zero=layer.mask_zero, **common)
    if isinstance(layer, layers.Dense):
        return layers.Dense(rank, use_bias=False, **common)
    window = ("kernel_size", "strides", "padding", "dilation_rate", "data_format")
    return type(layer)(rank, use_bias=False, **{key: getattr(layer, key) for key in window}, **common)


def _last(layer: Any) -> Any:
    """The factor next to the outputs: it has the original's name, bias and activation."""
    layers = import_keras().layers
    if isinstance(layer, layers.Embedding):
        return layers.Dense(layer.output_dim, use_bias=False, name=layer.name, dtype=layer.dtype_policy)
    config = layer.get_config()
    if not isinstance(layer, layers.Dense):
        ones = (1,) * len(layer.kernel_size)
        config |= {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}
    return from_config(layer, config)


def _split(decomposed: Any, rank: int) -> tuple[Array, Array]:
    """Factors of equal size, (rows, rank) and (rank, columns), so that both train alike."""
    left, values, right = decomposed
    roots = np.sqrt(values[:rank])
    return left[:, :rank] * roots, roots[:, None] * right[:rank]


def _ranks(
    step: Factorize, chosen: list[tuple[Kernel, Factorize]], spectra: Mapping[str, Spectrum], model: Any
) -> dict[str, int]:
    """The rank of each kernel; 0 where it stays whole."""
    ranks = {}
    for kernel, own in chosen:
        spectrum = spectra[kernel.name]
        if own.max_parameters is None:
            rank = spectrum.rank_of_energy(own.energy) if own.energy is not None else own.rank or 0
            ranks[kernel.name] = rank if rank <= spectrum.most else 0
    if step.max_parameters is None:
        return ranks
    shared = {name: spectrum for name, spectrum in spectra.items() if name not in ranks}
    fixed = sum(spectra[name].weights(rank) for name, rank in ranks.items())
    rest = model.count_params() - sum(spectrum.size for spectrum in spectra.values()) + fixed
    least = rest + least_weights(shared)
    if least > step.max_parameters:
        raise ConfigError(
            f"Factorize.max_parameters is {step.max_parameters:,}, but '{model.name}' keeps {least:,} with rank 1 in "
            f"every kernel that can be factorized; ask for {least:,} or more"
        )
    return ranks | ranks_within(shared, step.max_parameters - rest)


def unfit(kernel: Kernel, _own: Factorize) -> str | None:
    """Why a kernel cannot be two layers."""
    layers = import_keras().layers
    layer, kind = kernel.layer, type(kernel.layer).__name__
    if type(layer) not in (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Embedding):
        return f"the kernel of a {kind} layer is not factorized; left whole"
    if "/" in kernel.name:
        return f"it is part of the layer '{kernel.name.split('/')[0]}', which calls it itself; left whole"
    if getattr(layer, "groups", 1) > 1:
        return f"its channels are in {layer.groups} groups; left whole"
    if getattr(layer, "lora_enabled", False):
        return "it is adapted by LoRA; left whole"
    return None


def _rank_note(name: str, own: Factorize, spectrum: Spectrum, rank: int) -> Note:
    if rank:
        full = min(spectrum.rows, spectrum.columns)
        text = f"rank {rank} of {full} keeps {spectrum.energy(rank):.1%} of its energy"
    elif own.max_parameters is not None and spectrum.most:
        text = "left whole: the budget is met without it"
    else:
        text = f"left whole: factors of that rank have no fewer than its {spectrum.size:,} weights"
    return Note("factorize", name, text)


def _names(model: Any) -> set[str]:
    return {operation.name for operation in model.operations}


def _free(name: str, taken: set[str]) -> str:
    """A name for the first factor that no layer has."""
    found = f"{name}{SUFFIX}"
    while found in taken:
        found += "_"
    return found
