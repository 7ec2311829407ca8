"""Labels beside the points of a plot, so that no label lies on another one or on a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CHARACTER, HEIGHT, GAP = 6.8, 15.0, 4.0  # pixels, at 12 pixels of a sans-serif
_RINGS = 9


@dataclass(frozen=True)
class Dot:
    """A point of a plot, in pixels from its upper left corner, and what is to be written beside it."""

    x: float
    y: float
    radius: float
    text: str


@dataclass(frozen=True)
class Box:
    """Where a label goes: its left and right, its middle, and whether a line must lead to it."""

    left: float
    right: float
    middle: float
    led: bool = False

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        beside = self.right <= other.left or other.right <= self.left
        return not beside and abs(self.middle - other.middle) < HEIGHT

    def covers(self, dot: Dot) -> bool:
        """Whether it lies on a point."""
        inside = self.left - dot.radius < dot.x < self.right + dot.radius
        return inside and abs(self.middle - dot.y) < HEIGHT / 2 + dot.radius


def place(
    dots: Sequence[Dot], width: float, height: float, *, lines: Sequence[float] = (), taken: Sequence[Box] = ()
) -> list[Box]:
    """A box for each, near its point: the first free place to the right, left, above or below, ring by ring.

    Labels keep off `lines`, which are the heights of level lines, and off what is written already.
    """
    placed: list[Box] = []
    for dot in dots:
        free = (
            box
            for box in _places(dot)
            if box.left >= 0 and box.right <= width and HEIGHT / 2 <= box.middle <= height - HEIGHT / 2
            if not any(abs(box.middle - line) < HEIGHT / 2 + 2 for line in lines)
            if not any(box.meets(other) for other in (*taken, *placed)) and not any(box.covers(other) for other in dots)
        )
        placed.append(next(free, next(iter(_places(dot)))))
    return placed


def _places(dot: Dot) -> Iterable[Box]:
    length = CHARACTER * len(dot.text)
    beside = dot.radius + GAP
    yield Box(dot.x + beside, dot.x + beside + length, dot.y)
    yield Box(dot.x - beside - length, dot.x - beside, dot.y)
    for ring in range(_RINGS):
        away = beside + HEIGHT / 2 + ring * (HEIGHT + GAP)
        for middle in (dot.y - away, dot.y + away):
            for left in (dot.x - length / 2, dot.x + GAP, dot.x - GAP - length):
                yield Box(left, left + length, middle, led=ring > 0)
