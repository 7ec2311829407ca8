"""`precision = "auto"`: all that a target takes is made and timed; the fastest that keeps the metric stays.

The time is that of the device that the build was given, which the notes name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.budgets import Budget
from edgekit.errors import ConfigError, ConversionError
from edgekit.measuring import MeasuredVariant
from edgekit.planning import Plan
from edgekit.profiles import AUTO
from edgekit.report import ModelFacts
from edgekit.wording import counted


@dataclass(frozen=True)
class Candidate:
    """One variant that an automatic target may run, as it was measured."""

    id: str
    bytes: int
    drop: float  # of the metric below the float model's, as a fraction
    median_ms: float | None  # None when the device could not run it

    def fits(self, budget: Budget) -> bool:
        """Whether it runs there, within the limits on the metric and the size."""
        assert budget.max_metric_drop is not None
        small = budget.max_bytes is None or self.bytes <= budget.max_bytes
        return self.median_ms is not None and small and self.drop <= budget.max_metric_drop


@dataclass(frozen=True)
class Choice:
    """What stays of the candidates."""

    variants: tuple[MeasuredVariant, ...]
    preferred: Mapping[str, str]  # target -> variant id, for every target
    notes: tuple[str, ...] = ()  # for each automatic target, what was taken and what the others showed


def check_auto(plan: Plan, budget: Budget) -> None:
    """Raise ConfigError when a target is automatic and nothing says how much of the metric it may lose."""
    if plan.automatic and budget.max_metric_drop is None:
        raise ConfigError(
            f"target '{plan.automatic[0]}': precision \"{AUTO}\" takes the fastest that keeps the metric: say how much "
            "it may lose, with max_metric_drop in [budget]"
        )


def choose(
    plan: Plan,
    variants: Sequence[MeasuredVariant],
    medians_ms: Mapping[str, float],
    refused: Mapping[str, str],
    model: ModelFacts,
    budget: Budget,
    *,
    device: str,
) -> Choice:
    """Settle the automatic targets by `medians_ms` (variant id -> ms on `device`, its URL).

    `refused` says why candidates are not among the variants. Where nothing fits the budget, what loses least of the
    metric stays, so that the budget's verdict shows by how much. Raises ConversionError when a target has no candidate.
    """
    whole = model.compressed_metric if model.float_metric is None else model.float_metric
    assert whole is not None
    preferred, notes, losers = dict(plan.preferred), [], set[tuple[str, str]]()
    for target in plan.automatic:
        mine = [item for item in variants if target in item.variant.targets]
        candidates = [
            Candidate(item.variant.id, item.variant.member.bytes, whole - item.metric, medians_ms.get(item.variant.id))
            for item in mine
        ]
        if not candidates:
            raise ConversionError(f"target '{target}': no precision could be made; {'; '.join(refused.values())}")
        taken = _best(candidates, budget)
        preferred[target] = taken.id
        notes.append(_told(target, taken, candidates, budget, refused, device))
        losers |= {(target, item.id) for item in candidates if item is not taken}
    kept = (_without(item, losers) for item in variants)
    return Choice(tuple(item for item in kept if item.variant.targets), preferred, tuple(notes))


def _best(candidates: Sequence[Candidate], budget: Budget) -> Candidate:
    fitting = [item for item in candidates if item.fits(budget)]
    if fitting:
        return min(fitting, key=lambda item: item.median_ms or 0.0)
    return min(candidates, key=lambda item: (item.median_ms is None, item.drop))


def _without(item: MeasuredVariant, losers: set[tuple[str, str]]) -> MeasuredVariant:
    variant = item.variant
    targets = tuple(name for name in variant.targets if (name, variant.id) not in losers)
    return replace(item, variant=replace(variant, targets=targets))


def _told(
    target: str,
    taken: Candidate,
    candidates: Sequence[Candidate],
    budget: Budget,
    refused: Mapping[str, str],
    device: str,
) -> str:
    fitting = sorted((item for item in candidates if item.fits(budget)), key=lambda item: item.median_ms or 0.0)
    others = [_figures(item) for item in fitting if item is not taken]
    over = [_figures(item) for item in candidates if item not in fitting and item is not taken]
    words = [f'{target}: precision "{AUTO}" took {_figures(taken)}, timed on {device}']
    words += [f"none of {counted(len(candidates), 'candidate')} fits the budget"] if not fitting else []
    words += [f"slower: {', '.join(others)}"] if others else []
    words += [f"over the budget or not run: {', '.join(over)}"] if over else []
    words += [f"{name} could not be made: {reason}" for name, reason in refused.items()]
    return "; ".join(words)


def _figures(item: Candidate) -> str:
    timed = "not run" if item.median_ms is None else f"{item.median_ms:.4g} ms"
    return f"{item.id} ({timed}, {-100 * item.drop:+.1f} points, {item.bytes:,} bytes)"
