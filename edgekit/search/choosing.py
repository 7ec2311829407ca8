"""Which recipe the budgets leave, why, and what is nearest when they leave none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.budgets import BudgetItem
from edgekit.search.figures import Figures, Limits, cost, front
from edgekit.wording import counted

NEAREST = 3


@dataclass(frozen=True)
class Choice:
    """What a search came to."""

    chosen: Figures | None  # None when no recipe meets the budgets
    why: str
    front: tuple[Figures, ...]  # of what was trained most, by rising metric drop
    nearest: tuple[Figures, ...] = ()  # when none was chosen
    binding: tuple[str, ...] = ()  # limits without which a recipe would meet all others; else those the nearest misses


def choose(trials: Sequence[Figures], plain: Figures, limits: Limits, meaning: str) -> Choice:
    """Of these trials, all of one rung, the one of least cost that meets the limits; of equals, the better metric."""
    edge = tuple(front(trials, meaning))
    ranked = sorted(trials, key=lambda trial: (cost(trial, plain, meaning), trial.metric_drop, trial.number))
    meeting = [trial for trial in ranked if limits.met(trial)]
    if meeting:
        return Choice(meeting[0], _why(meeting[0], ranked, plain, limits, meaning), edge)
    nearest = sorted(ranked, key=limits.excess)[:NEAREST]
    binding = _binding(ranked, nearest[0], limits)
    missed = "; ".join(map(told, (item for item in limits.items(nearest[0]) if not item.met)))
    why = f"none of {counted(len(trials), 'recipe')} meets the budgets; the nearest, {nearest[0].id}, misses {missed}"
    return Choice(None, why, edge, tuple(nearest), binding)


def told(item: BudgetItem) -> str:
    """`max_bytes: 47,038 of 60,000`."""
    value = "not measured" if item.value is None else _number(item.value)
    return f"{item.name}: {value} of {_number(item.limit)}"


def _binding(trials: Sequence[Figures], nearest: Figures, limits: Limits) -> tuple[str, ...]:
    names = [item.name for item in limits.items(nearest)]
    alone = tuple(name for name in names if any(limits.met(trial, but=[name]) for trial in trials))
    return alone or tuple(item.name for item in limits.items(nearest) if not item.met)


def _why(chosen: Figures, ranked: Sequence[Figures], plain: Figures, limits: Limits, meaning: str) -> str:
    met = "; ".join(map(told, limits.items(chosen)))
    words = [
        f"{chosen.id} has the least bytes × latency ({cost(chosen, plain, meaning):.3f} of the plain file's) of "
        f"{counted(sum(map(limits.met, ranked)), 'recipe')} that meet the budgets ({met})"
    ]
    for trial in ranked[: ranked.index(chosen)]:
        missed = "; ".join(told(item) for item in limits.items(trial) if not item.met)
        words.append(f"{trial.id} would cost {cost(trial, plain, meaning):.3f} and misses {missed}")
    return ". ".join(words)


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
