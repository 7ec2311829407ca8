"""One finished trial as figures, and how figures compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.budgets import Budget, BudgetItem, check_budget
from edgekit.search.space import Params

REST = "untrained"  # the rungs, by how much a recipe was trained
SHORT = "short"
FULL = "full"
RUNGS = (REST, SHORT, FULL)
STEP = 1.05  # latencies are compared in steps of 5 %, so that most of the noise changes nothing


@dataclass(frozen=True)
class Figures:
    """What one recipe came to on one rung."""

    rung: str
    number: int  # of the trial in its rung's study
    params: Params
    key: str  # of its build
    metric: float
    metric_drop: float  # below the model as it came, on the same data
    bytes: int  # of the file
    packed_bytes: int
    parameters: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    latency_ratio: float  # of the plain file's median, measured in the same turns
    peak_rss_bytes: int | None
    seconds: float

    @property
    def id(self) -> str:
        """`full-3`."""
        return f"{self.rung}-{self.number}"

    def size(self, meaning: str) -> int:
        """What counts as its size: of the "file", or "packed"."""
        return self.packed_bytes if meaning == "packed" else self.bytes

    def objectives(self, meaning: str) -> tuple[float, float, float]:
        """Less is better in each: metric drop, bytes, latency in steps."""
        return self.metric_drop, float(self.size(meaning)), in_steps(self.latency_ratio)


@dataclass(frozen=True)
class Limits:
    """The budget of the project, and that of the search."""

    budget: Budget
    max_peak_rss_bytes: int | None = None

    @property
    def needs_memory(self) -> bool:
        """Whether peak memory is limited, and so must be measured."""
        return self.max_peak_rss_bytes is not None

    def items(self, figures: Figures) -> tuple[BudgetItem, ...]:
        """Each limit with what this trial reached."""
        items = check_budget(self.budget, [figures], {"": figures.id}).items
        if self.max_peak_rss_bytes is None:
            return items
        value, limit = figures.peak_rss_bytes, self.max_peak_rss_bytes
        met = value is not None and value <= limit
        return (*items, BudgetItem("max_peak_rss_bytes", limit, value, met, figures.id))

    def met(self, figures: Figures, *, but: Iterable[str] = ()) -> bool:
        """Whether all limits hold, some left out."""
        left_out = set(but)
        return all(item.met for item in self.items(figures) if item.name not in left_out)

    def excess(self, figures: Figures) -> float:
        """By how much the limits are missed together, each as a fraction of itself; of a limit of 0, in points."""
        missed = (item for item in self.items(figures) if not item.met)
        return sum(1.0 if item.value is None else (item.value - item.limit) / (item.limit or 0.01) for item in missed)


def in_steps(ratio: float) -> float:
    """The nearest power of STEP."""
    return STEP ** round(math.log(ratio) / math.log(STEP))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Nowhere worse, somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def front(trials: Sequence[Figures], meaning: str) -> list[Figures]:
    """Those that no other dominates, by rising metric drop; of equals, the first."""
    values = {trial.id: trial.objectives(meaning) for trial in trials}
    kept: dict[tuple[float, ...], Figures] = {}
    for trial in trials:
        own = values[trial.id]
        if not any(dominates(values[other.id], own) for other in trials):
            kept.setdefault(own, trial)
    return sorted(kept.values(), key=lambda trial: trial.objectives(meaning))


def cost(figures: Figures, plain: Figures, meaning: str) -> float:
    """Size times latency, each relative to the plain file: what the search lowers within the budget."""
    return figures.size(meaning) / plain.size(meaning) * figures.latency_ratio
