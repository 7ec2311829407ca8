"""Whole searches through the command line, on the tiny digits: slow, since each trial is a real conversion."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Digits
from tests.search.conftest import write_project

PATIENCE_S = 900.0
SETTINGS: dict[str, Any] = {"drop": 0.2, "trials": 6, "finalists": 1, "epochs": 1}


@dataclass(frozen=True)
class Searched:
    """One search that ran to its end."""

    project: Path
    output: Path
    result: dict[str, Any]

    @property
    def proposals(self) -> list[tuple[str, dict[str, Any]]]:
        return [(trial["id"], trial["params"]) for trial in self.result["trials"]]


def project_in(folder: Path, digits: Digits, target: str = "android-arm64") -> Path:
    """For a target that takes one format alone, which is quicker."""
    path = write_project(digits, folder, **SETTINGS)
    path.write_text(path.read_text().replace("[targets.local]", f"[targets.{target}]"))
    return path


def edgekit(*argv: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def searched(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return search(project_in(tmp_path_factory.mktemp("searched"), digits))


def search(project: Path) -> Searched:
    output = project.parent / "out"
    ended = edgekit("search", project, "-o", output, "--json")
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    return Searched(project, output, json.loads(line))


@pytest.mark.slow
def test_the_found_project_builds_the_same_bundle(searched: Searched, tmp_path: Path) -> None:
    _check_that_it_builds_the_same(searched, tmp_path)


@pytest.mark.slow
def test_the_found_project_of_an_onnx_target_builds_the_same_bundle(digits: Digits, tmp_path: Path) -> None:
    searched = search(project_in(tmp_path, digits, "jetson-orin-nano"))
    assert {trial["params"]["precision"] for trial in searched.result["trials"]} <= {"int8", "fp16", "fp32"}
    _check_that_it_builds_the_same(searched, tmp_path / "again")


def _check_that_it_builds_the_same(searched: Searched, tmp_path: Path) -> None:
    found = searched.result["files"]["project"]
    assert Path(found) == searched.project.with_name("project-found.toml")
    ended = edgekit("build", found, "-o", tmp_path, "--json")
    assert ended.returncode == 0, ended.stderr
    bundle = Path(searched.result["files"]["bundle"])
    assert (tmp_path / bundle.name).read_bytes() == bundle.read_bytes()


@pytest.mark.slow
def test_what_a_search_leaves(searched: Searched) -> None:
    result = searched.result
    assert json.loads((searched.output / "search.json").read_text()) == result
    assert result["met"]
    assert result["chosen"].startswith("full-")
    chosen = next(trial for trial in result["trials"] if trial["id"] == result["chosen"])
    assert chosen["metric_drop"] <= SETTINGS["drop"]
    assert chosen["missed"] == []
    assert result["plain"] == "full-0"
    assert (searched.output / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((searched.output / "sensitivity.json").read_text())
    assert table["format"] == "edgekit-sensitivity"
    methods = {(cell["layer"], cell["method"]) for cell in table["cells"] if cell["loss"] is not None}
    assert {("conv", name) for name in ("channels", "energy", "sparsity", "int8", "int4")} <= methods


@pytest.mark.slow
def test_killed_and_resumed_it_proposes_the_same_and_builds_nothing_twice(
    searched: Searched, digits: Digits, tmp_path: Path
) -> None:
    """Measured latencies are taken over, since they are the one thing that a machine does not say twice alike."""
    project, results = project_in(tmp_path, digits), tmp_path / "out" / "search" / "results"
    results.mkdir(parents=True)
    command = [sys.executable, "-m", "edgekit", "search", str(project), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline_s = time.monotonic() + PATIENCE_S
    while len(_builds(results)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in _builds(results)}
    _take_latencies(searched.output / "search" / "results", results)
    ended = edgekit("search", project, "-o", tmp_path / "out", "--resume", "--json")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(result["trials"]) + len(result["failures"]) >= SETTINGS["trials"]
    assert Searched(project, tmp_path, result).proposals == searched.proposals
    assert project.with_name("project-found.toml").read_text() == _found_text(searched)


def _builds(results: Path) -> list[Path]:
    return [path for path in results.glob("*.json") if "float_metric" in path.read_text()]


def _take_latencies(source: Path, target: Path) -> None:
    for path in source.glob("*.json"):
        if "median_ms" in path.read_text():
            shutil.copy2(path, target / path.name)


def _found_text(searched: Searched) -> str:
    return Path(searched.result["files"]["project"]).read_text()


@pytest.mark.slow
def test_a_newcomer_with_budgets_that_cannot_be_met(digits: Digits, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **digits.train)
    argv = ("search", digits.model, "--data", tmp_path / "d.npz", "--max-drop", 0.5, "--max-bytes", 100, "--json")
    ended = edgekit(*argv, "-o", tmp_path / "out")
    assert ended.returncode == 1, ended.stderr
    result = json.loads(ended.stdout)
    assert not result["met"]
    assert result["binding"] == ["max_bytes"]
    assert len(result["nearest"]) == 3
    assert all(trial["rung"] == "untrained" for trial in result["trials"]), "nothing is trained in vain"
    assert "max_bytes: " in result["why"]
    assert not (tmp_path / "out" / "project-found.toml").exists()
