"""Weights that share few values, and go on sharing them while a model trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any  # Any: keras models and variables, which have no types

import numpy as np

from edgekit.compression.kernels import kernels
from edgekit.compression.variables import read, write
from edgekit.tensors import Array

MOST = 256  # more distinct values than a byte can number are not called shared
FEWEST_MEMBERS = 4  # weights for each value, on average, from which on sharing is worth its table


@dataclass(frozen=True)
class Codebook:
    """A kernel as indices into a table of values."""

    values: Array  # float32 (clusters,)
    members: Array  # int32, of the kernel's shape: which value each weight has
    zero_stays: bool = True  # a value that is 0 does not move


class Sharing:
    """Variables whose weights share values: after a batch each value moves by the mean change of its members.

    Han et al. 2016, "Deep Compression", section 3: the members' gradients are added up for their centroid. Here the
    optimizer moves the members, and the centroid moves with them. Its arrays are a step's part of a training checkpoint
    (`training.StepState`): what a value is cannot be read from members that were averaged in floating point.
    """

    def __init__(self, shared: Sequence[tuple[Any, Codebook]]) -> None:
        """Variables with their codebooks; the variables are set from them."""
        self._variables = [variable for variable, _ in shared]
        self._members = [book.members for _, book in shared]
        self._values = [book.values.copy() for _, book in shared]
        self._shares = [_shares(book) for _, book in shared]
        for variable, values, members in zip(self._variables, self._values, self._members, strict=True):
            variable.assign(values.take(members))

    def apply(self) -> None:
        """Move the values by the mean change of their members, which is to the members' mean, and set the members.

        In numpy, because TensorFlow's segment sums take ten times as long and, on a GPU, add up in any order.
        """
        for variable, values, members, shares in zip(
            self._variables, self._values, self._members, self._shares, strict=True
        ):
            indices = members.reshape(-1).astype(np.intp)  # which bincount is quickest with
            sums = np.bincount(indices, weights=read(variable).reshape(-1), minlength=len(values))
            np.copyto(values, (sums * shares).astype(np.float32), where=shares > 0)
            write(variable, values.take(members))

    def arrays(self) -> Mapping[str, Array]:
        """The values of each variable, float32; a copy, because they move on."""
        return {f"values{index}": values.copy() for index, values in enumerate(self._values)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take the values back."""
        for index, values in enumerate(self._values):
            values[:] = arrays[f"values{index}"]


def codebook(variable: Any) -> Codebook | None:
    """The values that an earlier step made the weights share; None where they do not share any."""
    values, members = np.unique(np.asarray(variable, np.float32), return_inverse=True)
    if len(values) > min(MOST, members.size // FEWEST_MEMBERS):
        return None
    return Codebook(values, members.reshape(variable.shape).astype(np.int32))


def earlier_codebooks(model: Any, *, besides: Sequence[Any] = ()) -> list[tuple[Any, Codebook]]:
    """The variables of kernels whose weights share values since an earlier step, but for those in `besides`."""
    known = {id(variable) for variable in besides}
    variables = [kernel.variable for kernel in kernels(model) if id(kernel.variable) not in known]
    found = [(variable, codebook(variable)) for variable in variables]
    return [(variable, book) for variable, book in found if book is not None]


def _shares(book: Codebook) -> Array:
    """1 / members of each value; 0 where a value does not move."""
    counts = np.bincount(book.members.reshape(-1), minlength=len(book.values))
    shares: Array = np.where(counts, 1 / np.maximum(1, counts), 0)
    return np.where(book.values == 0, 0, shares) if book.zero_stays else shares
