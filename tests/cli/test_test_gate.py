"""`edgekit test --baseline` from the command to its exit code: only the times of the gate's processes are made up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import pack, parts

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--variant", "nope"), "the gate needs 'nope' in both bundles; the baseline has tflite-int8"),
        (("--gate-pairs", "2"), "gate: 2 pairs and 40 at most, expected 5 or more"),
        (("--gate-budget", "-1"), "gate: budget is a fraction of 0 or more, got -1.0"),
    ],
)
def test_what_cannot_be_compared_is_one_line(edgekit: Run, tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    old, new = (pack(tmp_path, parts()[1:2], version=version) for version in ("1.0.0", "1.1.0"))
    ended = edgekit("test", new, "--baseline", old, *flags, "--no-history")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert words in ended.stderr


@pytest.mark.parametrize(
    ("made_up", "exit_code", "verdict"),
    [("0.0,0.01", 0, "pass"), ("0.2,0.01", 1, "fail"), ("0.05,0.2", 3, "inconclusive")],
)
def test_the_verdict_is_the_exit_code(
    edgekit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: str, exit_code: int, verdict: str
) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTEST_PLUGINS", "tests.gate_plugin,tests.suite_plugin")
    monkeypatch.setenv("ONLY_SUITE", "test_regression.py")
    monkeypatch.setenv("MADE_UP", made_up)
    old, new = (pack(tmp_path, parts()[1:2], version=version) for version in ("1.0.0", "1.1.0"))
    summary, history = tmp_path / "gate.md", tmp_path / "history.sqlite"
    ended = edgekit("test", new, "--baseline", old, "--markdown", summary, "--history", history, "--json")
    assert ended.exit_code == exit_code, ended.stderr
    (device,) = ended.json["devices"]
    assert device["gate"]["verdict"] == verdict
    assert len(device["gate"]["samples"]) == (40 if verdict == "inconclusive" else 10)
    assert ended.json["inconclusive"] == (verdict == "inconclusive")
    assert f"tflite-int8 of tiny 1.1.0 against tiny 1.0.0: **{verdict}**" in summary.read_text()
    (run,) = edgekit("history", "--history", history, "--json").json["runs"]
    assert run["outcome"] == {"pass": "passed", "fail": "failed"}.get(verdict, verdict)
    assert run["figures"]["tflite-int8"]["gate_ratio"] == pytest.approx(device["gate"]["estimate"]["ratio"])
