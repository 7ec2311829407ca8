"""The search for the least set of layers to keep wider than int8, so that a file meets its goal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.comparison.model_file import ModelFile

Layers = tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """One conversion and what it reached."""

    precision: str  # what `layers` were kept at: "fp32", "int16x8"
    layers: Layers  # by the names that patterns match
    value: float  # of the goal
    met: bool
    bytes: int  # of the file
    file: ModelFile


Try = Callable[[Layers], Attempt]


def fewest(groups: Sequence[Layers], attempt: Try) -> tuple[int, Attempt] | None:
    """The smallest number of leading groups whose layers together meet the goal, with that attempt.

    Found by doubling, then by bisection, as if more layers never did worse. None when all groups do not.
    """
    low, high = 0, 1
    while not (found := attempt(leading(groups, high))).met:
        if high >= len(groups):
            return None
        low, high = high, min(2 * high, len(groups))
    while high - low > 1:
        middle = (low + high) // 2
        tried = attempt(leading(groups, middle))
        if tried.met:
            high, found = middle, tried
        else:
            low = middle
    return high, found


def reduced(found: Attempt, attempt: Try, weights: Mapping[str, int]) -> Attempt:
    """Without the layers that the goal can do without, each tried once, the one with the most weights first."""
    for layer in sorted(found.layers, key=lambda name: -weights.get(name, 0)):
        others = tuple(name for name in found.layers if name != layer)
        if others and (tried := attempt(others)).met:
            found = tried
    return found


def leading(groups: Iterable[Layers], count: int) -> Layers:
    """The layers of the first `count` groups, each once."""
    return tuple(dict.fromkeys(name for group in list(groups)[:count] for name in group))
