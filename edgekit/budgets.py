"""Budgets: limits on the variant that each target runs first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgekit.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """Limits; None is no limit."""

    max_metric_drop: float | None = None  # fraction, below the float model's metric
    max_bytes: int | None = None
    max_p90_ms: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and limit < 0:
                raise ConfigError(f"budget {name} is {limit}, expected 0 or more")


@dataclass(frozen=True)
class BudgetItem:
    """One limit and the worst value among the targets' first variants."""

    name: str
    limit: float
    value: float | None  # None when it was not measured
    met: bool
    variant: str | None  # whose value it is


@dataclass(frozen=True)
class BudgetVerdict:
    """All limits together."""

    met: bool
    items: tuple[BudgetItem, ...]


class Measured(Protocol):
    """What a budget looks at."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def metric_drop(self) -> float | None: ...  # noqa: D102
    @property
    def p90_ms(self) -> float | None: ...  # noqa: D102


def check_budget(budget: Budget, variants: Sequence[Measured], preferred: Mapping[str, str]) -> BudgetVerdict:
    """Hold the variants that targets run first to the limits; a value that was not measured does not meet one."""
    firsts = [variant for variant in variants if variant.id in set(preferred.values())]
    values: dict[str, dict[str, float | None]] = {
        "max_metric_drop": {variant.id: variant.metric_drop for variant in firsts},
        "max_bytes": {variant.id: variant.bytes for variant in firsts},
        "max_p90_ms": {variant.id: variant.p90_ms for variant in firsts},
    }
    limits: dict[str, float | None] = vars(budget)
    items = tuple(_item(name, limit, values[name]) for name, limit in limits.items() if limit is not None)
    return BudgetVerdict(all(item.met for item in items), items)


def _item(name: str, limit: float, values: Mapping[str, float | None]) -> BudgetItem:
    unmeasured = next((variant for variant, value in values.items() if value is None), None)
    if unmeasured is not None:
        return BudgetItem(name, limit, None, False, unmeasured)
    known = {variant: value for variant, value in values.items() if value is not None}
    worst = max(known, key=lambda variant: known[variant])
    return BudgetItem(name, limit, known[worst], known[worst] <= limit, worst)
