from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.history import History, Run

Command = Callable[..., Any]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "history.sqlite"
    with History.open(path) as history:
        history.record(
            [
                Run("test", device, "tiny", version, "0" * 64, "abc" * 10, "passed", {"int8": {"median_ms": ms}}, time)
                for device, version, ms, time in (
                    ("local:", "1.0.0", 2.0, "2026-01-01T00:00:00.000+00:00"),
                    ("local:", "1.1.0", 3.0, "2026-01-02T00:00:00.000+00:00"),
                    ("local:b", "1.1.0", 4.0, "2026-01-03T00:00:00.000+00:00"),
                )
            ]
        )
    return path


def test_runs_are_shown_newest_last(edgekit: Command, kept: Path) -> None:
    lines = edgekit("history", "--history", kept).stdout.splitlines()
    assert ["tiny 1.0.0" in line for line in lines if "tiny" in line] == [True, False, False]
    runs = edgekit("history", "tiny", "--device", "local:", "--limit", 1, "--history", kept, "--json").json["runs"]
    assert [(run["version"], run["figures"]) for run in runs] == [("1.1.0", {"int8": {"median_ms": 3.0}})]


def test_a_metric_over_time(edgekit: Command, kept: Path, tiny_bundle: Path) -> None:
    ended = edgekit("history", tiny_bundle, "--metric", "median_ms", "--variant", "int8", "--history", kept, "--json")
    assert {item["device"]: [point["value"] for point in item["points"]] for item in ended.json["series"]} == {
        "local:": [2.0, 3.0],
        "local:b": [4.0],
    }
    newest = edgekit("history", "--metric", "median_ms", "--limit", 1, "--history", kept, "--json").json["series"]
    assert [[point["value"] for point in item["points"]] for item in newest] == [[3.0], [4.0]]
    assert edgekit("history", "--metric", "nothing", "--history", kept).stdout == "no run has 'nothing'\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--variant", "int8"), "--variant is for --metric"), (("--limit", 0), "--limit is 0, expected 1 or more")],
)
def test_flags_that_cannot_be(edgekit: Command, kept: Path, flags: tuple[object, ...], said: str) -> None:
    ended = edgekit("history", "--history", kept, *flags)
    assert (ended.exit_code, said in ended.stderr) == (2, True)


def test_no_history_yet(edgekit: Command, tmp_path: Path) -> None:
    ended = edgekit("history", "--history", tmp_path / "none")
    assert (ended.exit_code, "no history yet" in ended.stderr) == (2, True)
    (tmp_path / "text").write_text("no database")
    assert edgekit("history", "--history", tmp_path / "text").exit_code == 2
