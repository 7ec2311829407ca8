"""Successive halving over several objectives: who is trained longer.

After Jamieson & Talwalkar 2016, with ranks by dominance (Deb et al. 2002) where they have one loss: Optuna's own
pruners take studies of one objective alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.search.figures import Figures, Limits, cost, front

FACTOR = 3  # one of so many goes on
ROUNDS = 3  # of finals

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


def rounds(finalists: int) -> list[int]:
    """How many are trained in full before it is asked anew who comes next."""
    sizes = [finalists // ROUNDS + (index < finalists % ROUNDS) for index in range(ROUNDS)]
    return [size for size in sizes if size]


def for_finals(
    trials: Sequence[Figures],
    trained: Sequence[tuple[Figures, Figures | None]],
    count: int,
    limits: Limits,
    plain: Figures,
    meaning: str,
) -> list[Figures]:
    """Of recipes that were trained shortly, who is trained in full next; `trained` are (short, full) of those before.

    How much of the metric a full training brings back, only one shows. So the recipes by rising drop and falling cost
    are searched as a sorted list is: between the cheapest that met the limits and the first beyond it that lost too
    much. When nothing lies between, those follow that would cost less than the cheapest, by their drop.
    """
    met = [(cost(full, plain, meaning), short.metric_drop) for short, full in trained if full and limits.met(full)]
    bar, floor = min(met, default=(float("inf"), float("-inf")))
    known = {short.id for short, _ in trained}
    open_ = [
        trial
        for trial in trials
        if trial.id not in known and limits.met(trial, but=NO_METRIC) and cost(trial, plain, meaning) < bar
    ]
    failed = [short.metric_drop for short, full in trained if full and _lost_too_much(full, limits)]
    ceiling = min((drop for drop in failed if drop > floor), default=float("inf"))
    between = [trial for trial in _ladder(open_, plain, meaning) if trial.metric_drop < ceiling]
    chosen = _inner(between, count)
    rest = sorted((trial for trial in open_ if trial not in between), key=lambda trial: trial.metric_drop)
    return [*chosen, *rest[: count - len(chosen)]]


def _lost_too_much(trial: Figures, limits: Limits) -> bool:
    return any(item.name in NO_METRIC and not item.met for item in limits.items(trial))


def _ladder(trials: Sequence[Figures], plain: Figures, meaning: str) -> list[Figures]:
    """By rising drop, each of less cost than those before it."""
    steps: list[Figures] = []
    for trial in sorted(trials, key=lambda trial: (trial.metric_drop, cost(trial, plain, meaning))):
        if not steps or cost(trial, plain, meaning) < cost(steps[-1], plain, meaning):
            steps.append(trial)
    return steps


def _inner(ranked: Sequence[Figures], count: int) -> list[Figures]:
    """`count` of them, evenly, the ends left out while there are others."""
    few = min(count, len(ranked))
    return [ranked[(index + 1) * len(ranked) // (few + 1)] for index in range(few)]


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
