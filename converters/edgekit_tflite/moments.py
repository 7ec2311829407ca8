"""Second moments of what kernels meet, on calibration samples, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.ranges import Feed
from edgekit.tensors import Array
from edgekit_tflite.activations import activations
from edgekit_tflite.patches import Patched

LARGEST = 4608  # numbers in a patch (3 × 3 × 512): rounding takes its cube in time, 22 bytes times its square
_AT_ONCE = 256 << 20  # bytes of moments; where all take more, the samples run again

Uses = Mapping[str, tuple[Patched, ...]]  # by kernel name


def second_moments(model: Path, uses: Uses, feeds: Sequence[Feed]) -> Iterator[tuple[str, Array]]:
    """Kernel name and moments, shape (groups, numbers, numbers), but for a factor: nothing but their ratios counts.

    Of each sample a few hundred positions at most are taken. A kernel whose moments overflow is left out. Raises
    ValueError and RuntimeError as LiteRT does.
    """
    for part in _parts(uses):
        yield from _measure(model, part, feeds).items()


def _measure(model: Path, uses: Uses, feeds: Sequence[Feed]) -> dict[str, Array]:
    readers: dict[str, list[tuple[str, Patched]]] = {}
    for name, operators in uses.items():
        for use in operators:
            readers.setdefault(use.reads, []).append((name, use))
    generator = np.random.default_rng(0)
    found = {name: np.zeros(_shape(operators), np.float32) for name, operators in uses.items()}
    for values in activations(model, feeds):
        for tensor, array in values:
            for name, use in readers.get(tensor, ()):
                patches = use.patches(array, generator)
                with np.errstate(over="ignore", invalid="ignore"):
                    found[name] += patches.transpose(0, 2, 1) @ patches
    return {name: moments for name, moments in found.items() if np.all(np.isfinite(moments))}


def _parts(uses: Uses) -> Iterator[Uses]:
    """So many kernels at once as memory allows."""
    part: dict[str, tuple[Patched, ...]] = {}
    taken = 0
    for name, operators in uses.items():
        size = 4 * int(np.prod(_shape(operators)))
        if part and taken + size > _AT_ONCE:
            yield part
            part, taken = {}, 0
        part[name] = operators
        taken += size
    if part:
        yield part


def _shape(uses: Sequence[Patched]) -> tuple[int, int, int]:
    return uses[0].groups, uses[0].numbers, uses[0].numbers
