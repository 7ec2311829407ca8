"""Pruning: the least important weights of any kernel become zero, gradually while the model trains, or at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgekit.compression.copying import copied
from edgekit.compression.importance import Scorer
from edgekit.compression.kernels import Kernel
from edgekit.compression.masks import Masks, earlier_zeros, zeros_kept
from edgekit.compression.selection import select_kernels
from edgekit.compression.sparsity_patterns import kept
from edgekit.compression.steps import Prune
from edgekit.compression.training import Training, train_on_task
from edgekit.loading import LoadedModel, Note
from edgekit.tensors import Array
from edgekit.wording import counted

RAMP = 0.6  # fraction of the training during which the sparsity rises; the rest recovers at full sparsity
UPDATES = 30  # how often the masks are chosen anew on the way


def prune(loaded: LoadedModel, step: Prune, training: Training) -> LoadedModel:
    """Prune a copy of the model, while fine-tuning it unless `step.epochs` is 0.

    Zeros that an earlier step made stay zero. Raises ModelError when no kernel can be pruned, DataError when data is
    needed and missing.
    """
    model = copied(loaded.model)
    chosen, notes = select_kernels(step, model, unfit)
    variables = [kernel.variable for kernel, _ in chosen]
    pruning = Pruning(step, chosen, Scorer(step.importance, variables, model, loaded, training))
    if step.epochs == 0:
        pruning.choose(1.0)
    train_on_task(
        model,
        loaded,
        step,
        training,
        f"prune to {step.target:.0%}",
        after_batch=pruning.after_batch,
        zeros=(pruning.masks, zeros_kept(model, besides=variables)),
        state=pruning.masks,
        ramp=pruning.ramp,
    )
    return loaded.with_model(model).with_notes([*notes, reached([kernel for kernel, _ in chosen])])


class Pruning:
    """The masks of the chosen kernels, and when they are chosen anew."""

    def __init__(self, step: Prune, chosen: list[tuple[Kernel, Prune]], scores: Callable[[], list[Array]]) -> None:
        """`scores` gives the importances of now, one array of its variable's shape for each chosen kernel."""
        self.masks = Masks([kernel.variable for kernel, _ in chosen])
        self.ramp = 0.0 if step.schedule == "one-shot" else RAMP
        self._step, self._chosen, self._scores = step, chosen, scores
        self._earlier = [earlier_zeros(kernel.variable) for kernel, _ in chosen]
        self._groups = _ranked_together(step, [own for _, own in chosen])

    def after_batch(self, done: int, total: int) -> None:
        """Choose the masks anew where the schedule says so."""
        ramp = max(1, int(total * RAMP))
        if self._step.schedule == "one-shot":
            if done == 0:
                self.choose(1.0)
        elif done <= ramp and (done % max(1, ramp // UPDATES) == 0 or done == ramp):
            self.choose(1.0 if self._step.schedule == "constant" else done / ramp)

    def choose(self, progress: float) -> None:
        """Choose masks for this point of the way from no sparsity (0) to the target (1), and apply them."""
        matrices = [
            kernel.to_matrix(np.where(earlier, np.float32(-1), score))
            for (kernel, _), earlier, score in zip(self._chosen, self._earlier, self._scores(), strict=True)
        ]
        masks: list[Array] = [np.empty(0)] * len(matrices)
        for own, members in self._groups:
            stay = kept([matrices[index] for index in members], own, polynomial_sparsity(progress, own.target))
            for index, mask in zip(members, stay, strict=True):
                masks[index] = self._chosen[index][0].from_matrix(mask) & ~self._earlier[index]
        self.masks.set(masks)
        self.masks.apply()


def polynomial_sparsity(progress: float, final: float) -> float:
    """Cubic rise from 0 to `final` as progress goes from 0 to 1 (Zhu & Gupta 2017, equation 1)."""
    return final * (1 - (1 - min(1.0, max(0.0, progress))) ** 3)


def _ranked_together(step: Prune, settings: list[Prune]) -> list[tuple[Prune, list[int]]]:
    """Kernels whose importances are ranked as one: each alone, or under scope "global" all of the same settings."""
    if step.scope == "layer":
        return [(own, [index]) for index, own in enumerate(settings)]
    distinct = [own for index, own in enumerate(settings) if own not in settings[:index]]
    return [(own, [index for index, other in enumerate(settings) if other == own]) for own in distinct]


def unfit(kernel: Kernel, own: Prune) -> str | None:
    """Why a kernel cannot be pruned in this pattern."""
    if kernel.kind == "depthwise":
        return f"depthwise kernels have {kernel.rows} weights per channel, too few to lose any; left dense"
    if own.pattern == "unstructured":
        return None
    if kernel.kind == "embedding":
        return f"a table that is looked up in has no sums for the pattern '{own.pattern}'; left dense"
    rows, columns = (own.kept_of[1], 1) if own.kept_of is not None else own.block
    if kernel.input_channels % rows:
        return f"its {kernel.input_channels} input channels are not divisible by {rows}; left dense"
    if kernel.columns % columns:
        return f"its {kernel.columns} output channels are not divisible by {columns}; left dense"
    return None


def reached(pruned: Sequence[Kernel]) -> Note:
    """How much of the kernels is zero."""
    zeros = sum(int((np.asarray(kernel.variable) == 0).sum()) for kernel in pruned)
    weights = sum(kernel.size for kernel in pruned)
    text = f"{zeros:,} of {weights:,} weights in {counted(len(pruned), 'kernel')} are zero ({zeros / weights:.1%})"
    return Note("prune", "", text)
