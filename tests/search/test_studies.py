"""Optuna's studies: the same proposals for the same seed, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ConfigError, OutputError
from edgekit.search import studies
from edgekit.search.space import Params, Space
from edgekit.search.studies import Database, Rung, attributes
from tests.search.trials import trial

SPACE = Space(
    ("int8", "fp16"),
    {"channels": {"conv": ("conv",), "dense": ("dense",)}, "kept": {"conv": ("conv",)}},
    ("fp32", "int4-weights"),
)
BATCH, TOTAL = 4, 13  # Optuna's sampler draws at random up to its tenth


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "BATCH", BATCH)


class KilledError(Exception):
    """The search dies here."""


def told(rung: Rung, number: int, params: Params) -> None:
    drop = float(params["channels/conv"]) ** 2 + 0.1 * (params["precision"] == "fp16")
    size = int(1000 * (2 - float(params["channels/conv"]) - float(params["channels/dense"])))
    made = trial(number, drop, size, 1.0 + 0.5 * (params["kept/conv"] == "fp32"), params=dict(params))
    rung.tell(number, made.objectives("file"), attributes(made, None))


def proposals(path: Path, *, seed: int = 0, kill_at: int | None = None, identity: str = "a") -> list[Params]:
    """All that a search of TOTAL trials proposes; with `kill_at`, it dies as that trial is to be told, and goes on."""
    resume = False
    while True:
        database = Database(path, identity, resume=resume)
        try:
            rung = Rung(database.study("untrained"), SPACE, seed)
            rung.enqueue([SPACE.neutral(), {**SPACE.neutral(), "channels/conv": 0.5}])
            for batch in rung.batches(TOTAL):
                for number, params in batch.items():
                    if number == kill_at:
                        raise KilledError
                    told(rung, number, params)
            return [figures.params for figures in rung.figures()]
        except KilledError:
            kill_at, resume = None, True
        finally:
            database.close()


def test_a_seed_is_a_sequence_and_a_kill_changes_nothing_of_it(tmp_path: Path) -> None:
    first = proposals(tmp_path / "whole.db")
    assert len(first) == TOTAL
    assert first[0] == SPACE.neutral()
    assert first[1]["channels/conv"] == 0.5
    for kill_at in (0, BATCH + 1, TOTAL - 1):
        assert proposals(tmp_path / f"{kill_at}.db", kill_at=kill_at) == first
    assert proposals(tmp_path / "other.db", seed=1) != first


def test_trials_told_in_another_order_lose_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", "a", resume=False)
    rung = Rung(database.study("untrained"), SPACE, 0)
    for batch in rung.batches(5):
        for number in reversed(batch):
            told(rung, number, batch[number])
    assert [figures.number for figures in rung.figures()] == [0, 1, 2, 3, 4]
    database.close()


def test_a_failed_trial_is_no_figure_and_keeps_its_reason(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", "a", resume=False)
    rung = Rung(database.study("untrained"), SPACE, 0)
    for batch in rung.batches(4):
        for number in batch:
            rung.tell(number, None, attributes(None, "no kernel for it"))
    assert rung.figures() == []
    assert rung.failures() == dict.fromkeys(range(4), "no kernel for it")
    database.close()


def test_a_study_of_another_search_is_refused_on_resume_and_replaced_without(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(path, "a", resume=False)
    Rung(database.study("untrained"), SPACE, 0).enqueue([SPACE.neutral()])
    database.close()
    database = Database(path, "other", resume=True)
    with pytest.raises(ConfigError, match=r"a\.db holds the study of another search .* leave --resume out"):
        database.study("untrained")
    database.close()
    database = Database(path, "other", resume=False)
    assert not database.study("untrained").trials
    database.close()


def test_two_searches_in_one_study_are_one_too_many(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "a.db", "a", resume=resume) for resume in (False, True)]
    first, second = (Rung(database.study("untrained"), SPACE, 0) for database in databases)
    second._ask(0)
    with pytest.raises(OutputError, match="another search writes into the study 'untrained'"):
        first._ask(0)
    for database in databases:
        database.close()


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_text("something else altogether\n" * 100)
    with pytest.raises(OutputError, match=r"cannot use .*a\.db as a study"):
        Database(path, "a", resume=True)
