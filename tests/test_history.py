from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import ConfigError, OutputError
from edgekit.history import History, Point, Run, figures_of, history_file

WRITER = """
import sys
from pathlib import Path
from edgekit.history import History, Run
for number in range(25):
    with History.open(Path(sys.argv[1])) as history:
        history.record([Run("bench", sys.argv[2], "m", "1", "0" * 64, None, "measured", {"v": {"n": number, "k": 1}})])
"""


def made(version: str, value: float, *, device: str = "local:a", time: str = "2026-01-01T00:00:00.000+00:00") -> Run:
    return Run(
        "test", device, "digits", version, "0" * 64, "abc", "passed", {"tflite-int8": {"median_ms": value}}, time
    )


def test_runs_come_back_as_they_went(tmp_path: Path) -> None:
    first, second = made("1.0.0", 1.5), made("1.1.0", 1.25, time="2026-01-02T00:00:00.000+00:00")
    with History.open(tmp_path / "new" / "history.sqlite") as history:
        history.record([second, first])
        assert history.runs() == (first, second)  # by time
        assert history.runs(limit=1) == (second,)
        assert history.runs(model="other") == ()
    with History.open(tmp_path / "new" / "history.sqlite") as history:
        assert history.runs(device="local:a", model="digits") == (first, second)


def test_series_by_device_and_variant(tmp_path: Path) -> None:
    with History.open(tmp_path / "h") as history:
        history.record(
            [made("1", 2.0, time="2026-01-03T00:00:00.000+00:00"), made("0", 1.0), made("0", 9.0, device="b:")]
        )
        other, one = history.series(model="digits", metric="median_ms")
        assert (one.device, one.variant, [point.value for point in one.points]) == (
            "local:a",
            "tflite-int8",
            [1.0, 2.0],
        )
        assert other.points == (Point("2026-01-01T00:00:00.000+00:00", "0", "abc", "passed", 9.0),)
        assert history.series(metric="nonsense") == ()
        assert history.series(device="b:", variant="tflite-int8") == (other,)


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("a:", "b:")]
    assert [writer.wait() for writer in writers] == [0, 0]
    with History.open(path) as history:
        for device in ("a:", "b:"):
            (series,) = history.series(device=device, metric="n")
            assert sorted(point.value for point in series.points) == list(range(25))


def test_a_run_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = made("1", 1.0)
    bad.figures["tflite-int8"]["p90_ms"] = None  # type: ignore[index]
    with History.open(tmp_path / "h") as history:
        with pytest.raises(ConfigError, match="NOT NULL"):
            history.record([made("0", 1.0), bad])
        assert history.runs() == ()


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h"
    History.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="version 99 of the history, this edgekit knows 1: update edgekit"):
        History.open(path)


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("no database " * 100)
    with pytest.raises(ConfigError, match="not a history that can be read"):
        History.open(tmp_path / "h")


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another file with --history"):
        History.open(tmp_path / "file" / "h")


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_HISTORY", raising=False)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    assert history_file() == tmp_path / "history.sqlite"
    monkeypatch.setenv("EDGEKIT_HISTORY", "/x/h")
    assert history_file() == Path("/x/h")
    assert history_file(Path("chosen")) == Path("chosen")
    monkeypatch.delenv("EDGEKIT_DATA")
    monkeypatch.delenv("EDGEKIT_HISTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert history_file() == tmp_path / "data" / "edgekit" / "history.sqlite"


def test_numbers_alone_are_kept() -> None:
    assert figures_of({"v": {"a": 1, "b": 0.5, "c": "text", "d": None, "e": True}}) == {"v": {"a": 1.0, "b": 0.5}}
