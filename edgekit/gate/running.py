"""Interleaved A/B on one device: a fresh process for each bundle of a pair, in random order, until a verdict."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgekit.devices.conditions import Condition
from edgekit.errors import EngineError
from edgekit.gate.baselines import check_baseline, shared_variants
from edgekit.gate.guard import Guard, TooHotError
from edgekit.gate.statistics import FAIL, INCONCLUSIVE, PASS, Estimate, GateSettings, estimate, floor_of, judge
from edgekit.manifest import Manifest
from edgekit.runtime.choosing import Choice
from edgekit.runtime.survey import Benched, BenchReply
from edgekit.runtime.timing import DEFAULT_WARMUP

CALIBRATION_PAIRS = 20
PROCESS_S = 0.3  # of timed runs in each process: shorter ones see single hiccups
LEAST_RUNS, MOST_RUNS = 50, 1000
_PILOT_RUNS = 20
NOT_CALIBRATED = "edgekit's own: not calibrated on this device"
BASELINE, CANDIDATE = "baseline", "candidate"


class Timed(Protocol):
    """A bundle on a device, as `edgekit.devices.DeployedBundle` is: each `bench` is a process of its own."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        ...

    def bench(
        self, variant: str | None = None, *, warmup: int = ..., runs: int = ..., threads: int = ...
    ) -> BenchReply:
        """Latency of one variant. Raises DeviceError, EngineError."""
        ...


@dataclass(frozen=True)
class PairSamples:
    """One pair of processes. Milliseconds, in the order they were taken, warm-up left out."""

    first: str  # BASELINE or CANDIDATE
    baseline_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    before: Condition
    after: Condition
    dropped: str | None = None  # why it does not count


@dataclass(frozen=True)
class GateResult:
    """A verdict, and all that it stands on."""

    verdict: str  # PASS, FAIL or INCONCLUSIVE
    reason: str  # in words
    baseline: str  # "digits 1.0.0"
    candidate: str
    choice: Choice  # what ran
    estimate: Estimate | None  # None where no pair counts
    settings: GateSettings
    floor_from: str  # where the settings' floor comes from
    baseline_ms: float | None  # median over processes
    candidate_ms: float | None
    warmup: int  # untimed runs of each process
    runs: int  # timed runs of each process
    samples: tuple[PairSamples, ...]


@dataclass(frozen=True)
class Calibration:
    """What one bundle differs by from itself."""

    floor: float  # a fraction
    bundle: str
    variant: str
    pairs: int


@dataclass(frozen=True)
class _Plan:
    """What every process of a session does."""

    variant: str
    runs: int
    threads: int
    choice: Choice


class _Session:
    """Pairs of processes on one device."""

    def __init__(self, baseline: Timed, candidate: Timed, plan: _Plan, guard: Guard, alive: Callable[[], object]):
        self._sides = {BASELINE: baseline, CANDIDATE: candidate}
        self._plan, self._guard, self._alive = plan, guard, alive
        self._random = random.Random(0)
        self.samples: list[PairSamples] = []

    def medians(self) -> tuple[list[float], list[float]]:
        """Of each process of the pairs that count, in ms: the baseline's, the candidate's."""
        counted = [pair for pair in self.samples if pair.dropped is None]
        return [_median(pair.baseline_ms) for pair in counted], [_median(pair.candidate_ms) for pair in counted]

    def collect(self, pairs: int) -> None:
        """Until so many pairs count. Raises TooHotError."""
        while len(self.medians()[0]) < pairs:
            self._alive()
            self.samples.append(self._pair())

    def _pair(self) -> PairSamples:
        before = self._guard.wait_until_cool()
        order = self._random.sample((BASELINE, CANDIDATE), 2)
        taken = {side: _bench(self._sides[side], self._plan).timing.samples_ms for side in order}
        after, trouble = self._guard.trouble_since()
        return PairSamples(order[0], taken[BASELINE], taken[CANDIDATE], before, after, trouble)


def run_gate(
    baseline: Timed,
    candidate: Timed,
    *,
    guard: Guard,
    variant: str | None = None,
    settings: GateSettings | None = None,
    floor_from: str = NOT_CALIBRATED,
    threads: int = 1,
    alive: Callable[[], object] = lambda: None,
    progress: Callable[[str], object] = lambda _: None,
) -> GateResult:
    """Whether `candidate` is slower than `baseline` on their device, in `variant` (default: the best of both there).

    `alive` is called before each pair. Raises ConfigError when the baseline lacks the variant or is of another model,
    and as `bench` does.
    """
    used = settings or GateSettings()
    check_baseline(candidate.manifest, baseline.manifest, variant)
    plan = _plan(candidate, variant, threads, shared=shared_variants(candidate.manifest, baseline.manifest))
    session = _Session(baseline, candidate, plan, guard, alive)
    _bench(baseline, plan)  # so that neither begins with cold files
    found, verdict, hot = _decide(session, used, progress)
    first_ms, second_ms = (float(np.median(medians)) if medians else None for medians in session.medians())
    return GateResult(
        verdict=verdict,
        reason=_reason(found, used, verdict, hot, floor_from),
        baseline=_title(baseline),
        candidate=_title(candidate),
        choice=plan.choice,
        estimate=found,
        settings=used,
        floor_from=floor_from,
        baseline_ms=first_ms,
        candidate_ms=second_ms,
        warmup=DEFAULT_WARMUP,
        runs=plan.runs,
        samples=tuple(session.samples),
    )


def _decide(
    session: _Session, settings: GateSettings, progress: Callable[[str], object]
) -> tuple[Estimate | None, str, str | None]:
    """The last estimate, the verdict, and what kept the device from going on."""
    found, verdict = None, INCONCLUSIVE
    try:
        for pairs in range(settings.pairs, settings.most_pairs + 1, settings.pairs):
            session.collect(pairs)
            found = estimate(*session.medians(), settings)
            verdict = judge(found, settings)
            progress(f"{describe(found)}: {verdict}")
            if verdict != INCONCLUSIVE:
                break
    except TooHotError as problem:
        return found, INCONCLUSIVE, str(problem)
    return found, verdict, None


def measure_floor(
    bundle: Timed,
    *,
    guard: Guard,
    variant: str | None = None,
    settings: GateSettings | None = None,
    threads: int = 1,
    alive: Callable[[], object] = lambda: None,
) -> Calibration:
    """What a bundle differs by from itself on its device, by A/A. Raises TooHotError, EngineError, DeviceError."""
    plan = _plan(bundle, variant, threads, shared=shared_variants(bundle.manifest, bundle.manifest))
    session = _Session(bundle, bundle, plan, guard, alive)
    session.collect(CALIBRATION_PAIRS)
    floor = floor_of(*session.medians(), settings or GateSettings())
    return Calibration(floor, _title(bundle), plan.variant, CALIBRATION_PAIRS)


def describe(found: Estimate) -> str:
    """ "3.1 % slower (1.2 to 5.0 % slower, 10 pairs)"."""
    return f"{_change(found.ratio)} ({_change(found.lower)} to {_change(found.upper)}, {found.pairs} pairs)"


def _change(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    return f"{abs(percent):.1f} % {'slower' if percent >= 0 else 'faster'}"


def _reason(found: Estimate | None, settings: GateSettings, verdict: str, hot: str | None, floor_from: str) -> str:
    if found is None:
        return hot or "no pair of processes was measured"
    floor = f"the device's floor is {100 * settings.floor:.1f} % ({floor_from})"
    words = {
        PASS: "not slower than allowed",
        FAIL: "slower than allowed",
        INCONCLUSIVE: hot or "too uncertain to say: measure on a quieter device, or allow more pairs",
    }
    return f"{words[verdict]}: {describe(found)}; {100 * settings.budget:g} % is allowed, {floor}"


def _plan(bundle: Timed, variant: str | None, threads: int, *, shared: Sequence[str]) -> _Plan:
    """By a first process, whose times are dropped."""
    found = _pilot(bundle, variant, threads)
    if found.choice.variant not in shared:  # the best there is new: the baseline lacks it
        found = _best_of(bundle, shared, threads)
    runs = math.ceil(PROCESS_S * 1000 / found.timing.median_ms)
    return _Plan(found.choice.variant, min(max(runs, LEAST_RUNS), MOST_RUNS), threads, found.choice)


def _best_of(bundle: Timed, variants: Sequence[str], threads: int) -> Benched:
    """The first of these that runs on the device. Raises EngineError."""
    reasons = []
    for variant in variants:
        try:
            return _pilot(bundle, variant, threads)
        except EngineError as problem:
            reasons.append(str(problem))
    raise EngineError(f"none of the variants that both bundles have runs there: {'; '.join(reasons)}")


def _pilot(bundle: Timed, variant: str | None, threads: int) -> Benched:
    (result,) = bundle.bench(variant, warmup=DEFAULT_WARMUP, runs=_PILOT_RUNS, threads=threads).results
    return result


def _bench(bundle: Timed, plan: _Plan) -> Benched:
    (result,) = bundle.bench(plan.variant, warmup=DEFAULT_WARMUP, runs=plan.runs, threads=plan.threads).results
    return result


def _median(samples_ms: Sequence[float]) -> float:
    return float(np.median(samples_ms))


def _title(bundle: Timed) -> str:
    return f"{bundle.manifest.name} {bundle.manifest.version}"
