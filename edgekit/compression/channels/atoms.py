"""Channels that depend on each other: a union-find over single channels.

Every channel that a layer makes is an *atom*, a number. Where the graph forces two channels to go together (a residual
sum, say), their atoms are united; atoms that must stay are fixed, with the reason in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Which atoms lie along one axis of a tensor: taking out an atom takes out its entries of that axis."""

    axis: int  # from the end: -1 is the last
    atoms: Indices  # one for each entry of the axis; an atom may come several times


@dataclass(frozen=True)
class Block:
    """The channels that one layer makes."""

    layer: str  # the layer's name
    what: str  # "channels", "heads", "units"
    atoms: Indices


class Atoms:
    """All atoms of a model."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def block(self, layer: str, what: str, count: int) -> Indices:
        """New atoms for what a layer makes."""
        block = Block(layer, what, self._new(count))
        self.blocks.append(block)
        return block.atoms

    def fixed(self, count: int, reason: str) -> Indices:
        """New atoms that must stay."""
        atoms = self._new(count)
        self.fix(atoms, reason)
        return atoms

    def unite(self, left: Indices, right: Indices) -> None:
        """The channels of two axes of one length go or stay together, pair by pair."""
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            first, second = sorted((self._root(one), self._root(other)))
            self._parents[second] = first

    def fix(self, atoms: Indices, reason: str) -> None:
        """These atoms must stay; the first reason counts."""
        for atom in np.unique(atoms).tolist():
            self._reasons.setdefault(atom, reason)

    def roots(self) -> Indices:
        """Atom -> the smallest atom that it goes together with."""
        return np.array([self._root(atom) for atom in range(len(self._parents))], np.int64)

    def reasons(self) -> dict[int, str]:
        """Root -> why it must stay."""
        found: dict[int, str] = {}
        for atom, reason in self._reasons.items():
            found.setdefault(self._root(atom), reason)
        return found

    def _new(self, count: int) -> Indices:
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _root(self, atom: int) -> int:
        parents = self._parents
        while parents[atom] != atom:
            parents[atom] = parents[parents[atom]]
            atom = parents[atom]
        return atom
