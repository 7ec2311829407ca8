"""What changed from one build of a model to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from edgekit.errors import ConfigError
from edgekit.report.facts import BuildReport, VariantFacts

SAME_DEVICE_ONLY = "latency is not compared where the builds were timed on different devices"
SEPARATE_RUNS = "latencies come from separate runs: what is small beside their spread may be noise"


@dataclass(frozen=True)
class Delta:
    """One figure in both builds. `change` is None where either was not measured, or the two cannot be compared."""

    before: float | None
    after: float | None
    change: float | None  # after - before

    @property
    def ratio(self) -> float | None:
        """The change as a fraction of the figure before."""
        return self.change / self.before if self.change is not None and self.before else None


@dataclass(frozen=True)
class VariantChange:
    """One variant that at least one of the builds has."""

    id: str
    status: str  # "both", "added" or "removed"
    bytes: Delta
    metric: Delta  # a fraction
    median_ms: Delta
    p90_ms: Delta


@dataclass(frozen=True)
class BuildChanges:
    """Everything that differs."""

    model: str
    before: str  # versions
    after: str
    before_within_budget: bool | None  # None where no budget was stated
    after_within_budget: bool | None
    variants: tuple[VariantChange, ...]
    provenance: Mapping[str, tuple[str | None, str | None]]  # what -> before and after, of what differs
    notes: tuple[str, ...]  # what makes figures hard to compare


def compare_builds(before: BuildReport, after: BuildReport) -> BuildChanges:
    """Raises ConfigError for builds of different models, or of different metrics."""
    check_comparable(before, after)
    variants = [_variant(name, _by_id(before).get(name), _by_id(after).get(name)) for name in _ids(before, after)]
    return BuildChanges(
        model=after.model.name,
        before=before.model.version,
        after=after.model.version,
        before_within_budget=within_budget(before),
        after_within_budget=within_budget(after),
        variants=tuple(variants),
        provenance=_provenance(before, after),
        notes=tuple(_notes(before, after, variants)),
    )


def check_comparable(before: BuildReport, after: BuildReport) -> None:
    """Raise ConfigError for builds of different models, or of different metrics."""
    if before.model.name != after.model.name:
        raise ConfigError(
            f"the builds are of different models ('{before.model.name}' and '{after.model.name}'): "
            "give two builds of one model"
        )
    if before.model.metric_name != after.model.metric_name:
        raise ConfigError(
            f"the builds were measured by different metrics ('{before.model.metric_name}' and "
            f"'{after.model.metric_name}'): build both with one"
        )


def within_budget(report: BuildReport) -> bool | None:
    """None where no budget was stated."""
    return report.budget.met if report.budget.items else None


def to_json(changes: BuildChanges) -> dict[str, object]:
    """As `edgekit compare --json` prints it."""
    return asdict(changes)


def _by_id(report: BuildReport) -> dict[str, VariantFacts]:
    return {variant.id: variant for variant in report.variants}


def _ids(before: BuildReport, after: BuildReport) -> list[str]:
    return list(dict.fromkeys([*_by_id(after), *_by_id(before)]))


def _variant(name: str, before: VariantFacts | None, after: VariantFacts | None) -> VariantChange:
    same_device = before is not None and after is not None and before.device == after.device

    def delta(figure: Callable[[VariantFacts], float | None], *, comparable: bool = True) -> Delta:
        sides = [None if side is None else figure(side) for side in (before, after)]
        known = [value for value in sides if value is not None]
        return Delta(sides[0], sides[1], known[1] - known[0] if len(known) == 2 and comparable else None)

    return VariantChange(
        id=name,
        status="both" if before and after else "added" if after else "removed",
        bytes=delta(lambda side: side.bytes),
        metric=delta(lambda side: side.metric),
        median_ms=delta(lambda side: side.median_ms, comparable=same_device),
        p90_ms=delta(lambda side: side.p90_ms, comparable=same_device),
    )


def _provenance(before: BuildReport, after: BuildReport) -> dict[str, tuple[str | None, str | None]]:
    sides = [_facts(report) for report in (before, after)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    pairs = {name: (sides[0].get(name), sides[1].get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _facts(report: BuildReport) -> dict[str, str]:
    found = report.provenance
    steps = [", ".join(f"{key} = {value}" for key, value in step.items()) for step in found.recipe]
    return {
        "model, sha256": found.model_sha256,
        **{f"{role} data, sha256": digest for role, digest in found.data_sha256.items()},
        **{f"step {number}": step for number, step in enumerate(steps, start=1)},
        **found.tools,
    }


def _notes(before: BuildReport, after: BuildReport, variants: list[VariantChange]) -> list[str]:
    notes = []
    if before.provenance.data_sha256.get("evaluation") != after.provenance.data_sha256.get("evaluation"):
        notes.append("the builds were evaluated on different data: their metrics are of different questions")
    timed = [change.median_ms for change in variants if None not in (change.median_ms.before, change.median_ms.after)]
    if any(delta.change is None for delta in timed):
        notes.append(SAME_DEVICE_ONLY)
    if any(delta.change is not None for delta in timed):
        notes.append(SEPARATE_RUNS)
    return notes
