"""Storage quantization: weights rounded to few values, at once or while they train through the rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.compression.copying import copied
from edgekit.compression.kernels import Kernel
from edgekit.compression.masks import Masks, earlier_zeros, zeros_kept
from edgekit.compression.selection import select_kernels
from edgekit.compression.sharing import Sharing, codebook, earlier_codebooks
from edgekit.compression.steps import QuantizeWeights
from edgekit.compression.training import StepState, Training, train_on_task
from edgekit.compression.weight_grids import rounding
from edgekit.loading import LoadedModel, Note, import_keras
from edgekit.tensors import Array

STORAGE_ONLY = "for storage only: the weights are float32 still, pack well, and no engine's kernel runs them faster"


def quantize_weights(loaded: LoadedModel, step: QuantizeWeights, training: Training) -> LoadedModel:
    """Round the kernels of a copy of the model; with epochs, train what is behind the rounding.

    Zeros that an earlier step made stay zero, and weights that share values go on sharing them. Raises ModelError when
    no kernel can be rounded, DataError when data is needed and missing.
    """
    model = copied(loaded.model)
    chosen, notes = select_kernels(step, model, _unfit)
    notes.extend(_kept_notes(chosen))
    variables = [kernel.variable for kernel, _ in chosen]
    others = Sharing(earlier_codebooks(model, besides=variables))
    behind = Behind(chosen, others)

    def after_batch(_done: int, _total: int) -> None:
        behind.apply()
        others.apply()

    train_on_task(
        model,
        loaded,
        step,
        training,
        f"quantize weights ({step.scheme})",
        after_batch=after_batch,
        zeros=(zeros_kept(model, besides=variables),),
        state=behind,
    )
    return loaded.with_model(model).with_notes([*notes, Note("quantize-weights", "", STORAGE_ONLY)])


class Behind:
    """The exact weights behind rounded ones: they take the optimizer's changes, and are rounded again.

    The gradient of a rounded weight is taken for that of the exact one (the straight-through estimator; Courbariaux et
    al. 2015). Its arrays are the step's part of a training checkpoint (`training.StepState`).
    """

    def __init__(self, chosen: Sequence[tuple[Kernel, QuantizeWeights]], others: StepState) -> None:
        """Rounds the kernels. `others` is kept in the checkpoint too."""
        import tensorflow as tf

        make = import_keras().Variable
        self._others = others
        self._variables = [kernel.variable for kernel, _ in chosen]
        self._exact = [make(np.asarray(variable, np.float32), trainable=False) for variable in self._variables]
        books = [codebook(variable) for variable in self._variables]
        self._sharing = Sharing([(e, book) for e, book in zip(self._exact, books, strict=True) if book is not None])
        self._zeros = Masks([exact for exact in self._exact if earlier_zeros(exact).any()])
        self._rounded = [
            rounding(own, np.asarray(exact), _one_scale(kernel, shared=book is not None))
            for (kernel, own), exact, book in zip(chosen, self._exact, books, strict=True)
        ]
        self._take = tf.function(self._take_changes, autograph=False)  # called after every batch
        self._give = tf.function(self._round, autograph=False)
        self._give()

    def apply(self) -> None:
        """Take over what the optimizer changed, and round again."""
        self._take()
        self._sharing.apply()
        self._zeros.apply()
        self._give()

    def arrays(self) -> Mapping[str, Array]:
        """The exact weights, float32, and what shared values are."""
        exact = {f"exact{index}": np.asarray(variable) for index, variable in enumerate(self._exact)}
        shared = {f"shared/{name}": array for name, array in self._sharing.arrays().items()}
        return {**exact, **shared, **{f"others/{name}": array for name, array in self._others.arrays().items()}}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take them back."""
        for index, variable in enumerate(self._exact):
            variable.assign(arrays[f"exact{index}"])
        self._sharing.restore(_below("shared/", arrays))
        self._others.restore(_below("others/", arrays))

    def _take_changes(self) -> None:
        ops = import_keras().ops
        for variable, exact, rounded in zip(self._variables, self._exact, self._rounded, strict=True):
            exact.assign_add(ops.cast(variable, "float32") - rounded(exact.value))

    def _round(self) -> None:
        ops = import_keras().ops
        for variable, exact, rounded in zip(self._variables, self._exact, self._rounded, strict=True):
            variable.assign(ops.cast(rounded(exact.value), variable.dtype))


def _below(prefix: str, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _one_scale(kernel: Kernel, *, shared: bool) -> tuple[int, ...]:
    """The axes within which all weights have one scale: those of an output channel, or all where values are shared."""
    return tuple(range(len(kernel.variable.shape))) if shared else kernel.reduced


def _unfit(kernel: Kernel, own: QuantizeWeights) -> str | None:
    """Why a kernel is left exact."""
    if kernel.kind == "depthwise" and own.scheme in ("ternary", "binary"):
        return (
            f"depthwise kernels have {kernel.rows} weights per channel, too few for {own.scheme} ones; left as they are"
        )
    return None


def _kept_notes(chosen: Sequence[tuple[Kernel, QuantizeWeights]]) -> list[Note]:
    notes = []
    for kernel, own in chosen:
        zeros = int(earlier_zeros(kernel.variable).sum())
        if own.scheme == "binary" and zeros:
            text = f"its {zeros:,} zeros stay, so that it has three values, not two"
            notes.append(Note("quantize-weights", kernel.name, text))
        if codebook(kernel.variable) is not None:
            text = "one scale for the whole kernel, so that its shared values stay shared"
            notes.append(Note("quantize-weights", kernel.name, text))
    return notes
