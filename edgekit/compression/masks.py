"""Zeros that stay zero while a model trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.compression.kernels import kernels
from edgekit.tensors import Array


class Masks:
    """One mask for each variable: 1 where a weight may change, 0 where it is held at zero."""

    def __init__(self, variables: Sequence[Any]) -> None:
        """Start from the zeros that are there."""
        self._variables = variables
        self.keep()

    def keep(self) -> None:
        """The zeros of now are the ones that stay."""
        self.set([np.asarray(variable) != 0 for variable in self._variables])

    def set(self, masks: Sequence[Array]) -> None:
        """Use these masks, one of its variable's shape for each."""
        self._masks = [mask.astype(np.float32) for mask in masks]

    def apply(self) -> None:
        """Set the masked weights to zero."""
        for variable, mask in zip(self._variables, self._masks, strict=True):
            variable.assign(variable * mask)


def zeros_kept(model: Any) -> Masks:
    """Masks for the zeros that an earlier step made; a kernel of zeros alone was made so to be trained."""
    return Masks([kernel.variable for kernel in kernels(model) if _is_sparse(kernel.variable)])


def _is_sparse(variable: Any) -> bool:
    zeros = np.asarray(variable) == 0
    return bool(zeros.any() and not zeros.all())
