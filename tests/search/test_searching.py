"""The rungs, on trials that cost nothing: who goes on, what is shared, and what an interruption loses (nothing)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import pytest

from edgekit.budgets import Budget
from edgekit.cli.search import text
from edgekit.compression import Factorize, PruneChannels
from edgekit.progress import LoggedProgress
from edgekit.search import results, studies
from edgekit.search.figures import FULL, REST, SHORT, Limits
from edgekit.search.latency import Candidate, Latency, Stopwatch
from edgekit.search.searching import Search
from edgekit.search.space import make_space
from edgekit.search.store import Store
from edgekit.search.studies import Database
from edgekit.search.subject import Subject
from edgekit.search.trials import BUNDLE, Job, Made, Outcome

FLOAT_METRIC = 0.9
PLAIN_BYTES = 1000


class KilledError(Exception):
    """The search dies here."""


@dataclass
class FakePool:
    """Smaller is worse, and training mends it; dies after so many jobs."""

    ran: Counter[str] = field(default_factory=Counter)
    dies_after: int | None = None

    def __enter__(self) -> FakePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Made]]:
        for key, job in jobs.items():
            if self.dies_after is not None and self.ran.total() >= self.dies_after:
                raise KilledError
            self.ran[key] += 1
            yield key, Made(_outcome(job), {BUNDLE: b"bundle"})


class FakeStopwatch(Stopwatch):
    """As fast as small, on no device."""

    def __init__(self, search_store: Store) -> None:
        super().__init__("local:", search_store, memory=False, wait_s=0, progress=LoggedProgress())
        self._results = search_store

    def measure(self, plain: Candidate, candidates: Mapping[str, Candidate]) -> dict[str, Latency]:
        assert plain.bundle.exists()
        return {name: self._latency(candidate) for name, candidate in candidates.items()}

    def _latency(self, candidate: Candidate) -> Latency:
        known = self._results.get(candidate.bundle.parent.name)
        assert known is not None
        ms = float(known["bytes"]) / PLAIN_BYTES
        return Latency(ms, ms, ms, 1.0)


def _strength(job: Job) -> float:
    found = 0.0
    for step in job.recipe.steps:
        if isinstance(step, PruneChannels):
            found += step.ratio or 0.0
        if isinstance(step, Factorize):
            found += 1.0 - (step.energy or 1.0)
    return found


def _outcome(job: Job) -> Outcome:
    strength = _strength(job)
    if strength > 0.9:
        return Outcome(error="nothing is left of it")
    lost = strength * {True: 0.02, False: 0.2 if job.rows else 0.5}[job.rows is None]
    size = round(PLAIN_BYTES * (1 - strength))
    return Outcome(FLOAT_METRIC - lost, FLOAT_METRIC, size, size, size, 1.0)


@pytest.fixture
def make_search(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studies, "BATCH", 4)
    opened: list[Database] = []

    def make(pool: FakePool, folder: str = "a", *, resume: bool = False, budget: Budget | None = None) -> Search:
        store = Store(tmp_path / folder / "results")
        database = Database(tmp_path / folder / "study.db", "identity", resume=resume)
        opened.append(database)
        space = make_space(subject.model.model, subject.precisions, subject.format, subject.project.search)
        limits = Limits(budget or Budget(max_metric_drop=0.01))
        return Search(subject, space, limits, store, FakeStopwatch(store), pool, database, tmp_path, LoggedProgress())

    yield make
    for database in opened:
        database.close()


def _seeds(search: Search) -> list[dict[str, float | str]]:
    return [search.space.neutral() | {"channels/conv": ratio} for ratio in (0.0, 0.25, 0.5, 0.75)]


def test_the_rungs_narrow_and_the_best_within_the_budget_is_chosen(make_search) -> None:  # type: ignore[no-untyped-def]
    pool = FakePool()
    search = make_search(pool)
    choice, plain = search.run(_seeds(search))
    found = results.found(search, choice, plain)
    rungs = Counter(trial.rung for trial in found.trials)
    assert rungs[REST] + sum(name.startswith(REST) for name in found.failures) == 12
    assert rungs[SHORT] == 4
    assert rungs[FULL] == 3, "two finalists and the plain file"
    assert max(pool.ran.values()) == 1, "equal recipes share a build"
    assert plain.params == search.space.neutral()
    assert choice.chosen is not None
    assert choice.chosen.rung == FULL
    assert 0 < choice.chosen.metric_drop <= 0.01
    assert "nothing is left of it" in found.failures.values() or not found.failures


@pytest.mark.parametrize("dies_after", [7, 14])
def test_after_a_kill_it_goes_on_to_the_same_end_and_runs_nothing_twice(make_search, dies_after: int) -> None:  # type: ignore[no-untyped-def]
    whole_pool, pool = FakePool(), FakePool(dies_after=dies_after)
    whole = make_search(whole_pool, "whole")
    expected = whole.run(_seeds(whole))
    killed = make_search(pool)
    with pytest.raises(KilledError):
        killed.run(_seeds(killed))
    killed.database.close()
    pool.dies_after = None
    resumed = make_search(pool, resume=True)
    assert resumed.run(_seeds(resumed)) == expected
    assert pool.ran == whole_pool.ran


def test_sizes_that_nothing_reaches_end_the_search_before_any_training(make_search) -> None:  # type: ignore[no-untyped-def]
    pool = FakePool()
    search = make_search(pool, budget=Budget(max_metric_drop=0.5, max_bytes=5))
    choice, _ = search.run(_seeds(search))
    assert choice.chosen is None
    assert choice.binding == ("max_bytes",)
    assert all(trial.rung == REST for trial in choice.nearest)
    assert results.found(search, choice, choice.nearest[0]).met is False


def test_only_a_picture_that_was_drawn_is_named(make_search, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    search = make_search(FakePool())
    found = results.found(search, *search.run(_seeds(search)))
    assert results.HEAT_MAP not in text(found, tmp_path)
    (tmp_path / results.HEAT_MAP).write_bytes(b"drawn")
    assert f"sensitivity of each layer: {tmp_path / results.HEAT_MAP}" in text(found, tmp_path)


def test_a_stronger_budget_takes_a_weaker_recipe(make_search) -> None:  # type: ignore[no-untyped-def]
    search = make_search(FakePool(), budget=Budget(max_metric_drop=0.0))
    choice, plain = search.run(_seeds(search))
    assert choice.chosen is not None
    assert choice.chosen.metric_drop == 0.0
    assert replace(choice.chosen, number=0, rung=plain.rung).bytes == plain.bytes
