"""Successive halving over several objectives: who is trained longer.

After Jamieson & Talwalkar 2016, with ranks by dominance (Deb et al. 2002) where they have one loss: Optuna's own
pruners take studies of one objective alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.search.figures import Figures, Limits, cost, front

FACTOR = 3  # one of so many goes on

NO_METRIC = ("max_metric_drop",)  # which training changes; a file's size and latency it does not


def survivors(trials: int, finalists: int) -> int:
    """How many of the untrained recipes are trained shortly."""
    return max(finalists, -(-trials // FACTOR))


def for_training(trials: Sequence[Figures], count: int, limits: Limits, meaning: str) -> list[Figures]:
    """Of recipes that were not trained: front after front, each thinned evenly from the best metric to the smallest.

    What misses a limit that training cannot change is left out.
    """
    able = [trial for trial in trials if limits.met(trial, but=NO_METRIC)]
    chosen: list[Figures] = []
    while able and len(chosen) < count:
        ranked = front(able, meaning)
        chosen += spread(ranked, count - len(chosen))
        gone = {trial.id for trial in ranked}
        able = [trial for trial in able if trial.id not in gone and _new(trial, ranked, meaning)]
    return chosen


def for_finals(trials: Sequence[Figures], count: int, limits: Limits, plain: Figures, meaning: str) -> list[Figures]:
    """Of recipes that were trained shortly, who is trained in full.

    A third keep the metric already, those of least cost; the others do not yet and would cost less, those of the least
    drop, since longer training brings them nearer.
    """
    able = [trial for trial in trials if limits.met(trial, but=NO_METRIC)]
    keeping = sorted((trial for trial in able if limits.met(trial)), key=lambda trial: cost(trial, plain, meaning))
    bar = cost(keeping[0], plain, meaning) if keeping else float("inf")
    near = sorted(
        (trial for trial in able if not limits.met(trial) and cost(trial, plain, meaning) < bar),
        key=lambda trial: trial.metric_drop,
    )
    first = keeping[: max(count - len(near), 1, count // FACTOR)]
    return [*first, *near[: count - len(first)]]


def spread(ranked: Sequence[Figures], count: int) -> list[Figures]:
    """`count` of them, evenly, both ends included."""
    if len(ranked) <= count:
        return list(ranked)
    if count == 1:
        return [ranked[len(ranked) // 2]]
    return [ranked[round(index * (len(ranked) - 1) / (count - 1))] for index in range(count)]


def _new(trial: Figures, ranked: Sequence[Figures], meaning: str) -> bool:
    """Whether it is another build than those of this front, and not one that equals them in everything."""
    same = {item.key for item in ranked}, {item.objectives(meaning) for item in ranked}
    return trial.key not in same[0] and trial.objectives(meaning) not in same[1]
