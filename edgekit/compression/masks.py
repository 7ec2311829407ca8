"""Zeros that stay zero while a model trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.compression.kernels import kernels
from edgekit.loading import import_keras
from edgekit.tensors import Array


class Masks:
    """One mask for each variable: True where a weight may change, False where it is held at zero.

    Its arrays are a step's part of a training checkpoint (`training.StepState`).
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        """Start from the zeros that are there."""
        import tensorflow as tf

        keras = import_keras()
        self._variables = list(variables)
        self._masks = [keras.Variable(np.asarray(v) != 0, dtype="bool", trainable=False) for v in self._variables]
        self._run = tf.function(self._zero, autograph=False)  # one call for all variables

    def keep(self) -> None:
        """The zeros of now are the ones that stay."""
        self.set([np.asarray(variable) != 0 for variable in self._variables])

    def set(self, masks: Sequence[Array]) -> None:
        """Use these masks, one of its variable's shape for each; what is not 0 may change."""
        for mask, values in zip(self._masks, masks, strict=True):
            mask.assign(values.astype(bool))

    def apply(self) -> None:
        """Set the masked weights to zero."""
        if self._variables:
            self._run()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts, an optimizer sets the masked weights to zero in each of its updates.

        The masks are the variables' constraints then, part of the compiled training step, which a call of its own
        after every batch would slow. A constraint that is there already comes first.
        """
        own = [variable.constraint for variable in self._variables]
        self.apply()
        for variable, mask, constraint in zip(self._variables, self._masks, own, strict=True):
            variable.constraint = partial(_constrained, mask, constraint)
        try:
            yield
        finally:
            for variable, constraint in zip(self._variables, own, strict=True):
                variable.constraint = constraint

    def arrays(self) -> Mapping[str, Array]:
        """The masks, boolean."""
        return {f"mask{index}": np.asarray(mask) for index, mask in enumerate(self._masks)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take the masks back."""
        self.set([arrays[f"mask{index}"] for index in range(len(self._masks))])

    def _zero(self) -> None:
        for variable, mask in zip(self._variables, self._masks, strict=True):
            variable.assign(_constrained(mask, None, variable))


def _constrained(mask: Any, first: Any, weights: Any) -> Any:
    ops = import_keras().ops
    weights = ops.convert_to_tensor(weights if first is None else first(weights))
    return ops.where(mask, weights, ops.zeros_like(weights))


def zeros_kept(model: Any, *, besides: Sequence[Any] = ()) -> Masks:
    """Masks for the zeros that an earlier step made, but for the variables in `besides`."""
    known = {id(variable) for variable in besides}
    variables = [kernel.variable for kernel in kernels(model) if id(kernel.variable) not in known]
    return Masks([variable for variable in variables if earlier_zeros(variable).any()])


def earlier_zeros(variable: Any) -> Array:
    """True where an earlier step made a zero; a kernel of zeros alone was made so to be trained."""
    zeros: Array = np.asarray(variable) == 0
    return np.zeros_like(zeros) if zeros.all() else zeros
