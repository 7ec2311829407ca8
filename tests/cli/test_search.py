from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomllib

from edgekit.project import load_project
from tests.cli.conftest import Ended
from tests.conftest import Digits

Run = Callable[..., Ended]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-drop", "0.01"), "error: model.keras is no project file (.toml), so the search needs --data"),
        (("--data", "d.npz"), "error: say how much of the metric may be lost: --max-drop 0.01 is one point"),
        (
            ("--data", "d.npz", "--max-drop", "5"),
            "error: max_metric_drop is a fraction in [0, 1), got 5; for 5 % write 0.05",
        ),
        (("--data", "d.npz", "--max-drop", "0.1", "--max-bytes", "-1"), "error: budget max_bytes is -1, expected 0"),
        (("--data", "d.npz", "--max-drop", "0.1", "--target", "locl"), "error: unknown target 'locl'; did you mean"),
        (("--max-dorp", "0.01"), "error: unrecognized arguments: --max-dorp 0.01"),
    ],
)
def test_a_newcomers_mistakes(edgekit: Run, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    ended = edgekit("search", "model.keras", *flags, "-o", tmp_path / "out")
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1].startswith(message)
    assert not (tmp_path / "out").exists()


def test_budgets_stand_in_a_project_file(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("search", tmp_path / "project.toml", "--max-drop", "0.01", "--json")
    assert ended.exit_code == 2
    assert ended.json["error"]["message"] == (
        "--max-drop is for a model without a project file: project.toml says it itself"
    )


@pytest.mark.parametrize("name", ["project.toml", "train.npz", "evaluation.npz"])
def test_files_of_somebody_else_are_not_written_over(edgekit: Run, digits: Digits, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    np.savez(tmp_path / "d.npz", **digits.few(100))
    ended = edgekit("search", digits.model, "--data", tmp_path / "d.npz", "--max-drop", 0.1, "-o", tmp_path)
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1] == (
        f"error: {tmp_path / name} is there already, and would be written over: choose another -o"
    )
    assert (tmp_path / name).read_text() == "mine"


def test_a_device_that_is_none_is_said_before_the_work(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **digits.few(100))
    argv = ("search", digits.model, "--data", tmp_path / "d.npz", "--max-drop", 0.1, "-o", tmp_path / "out")
    ended = edgekit(*argv, "--max-p90-ms", 2, "--max-peak-rss-bytes", 90_000_000, "--device", "ssh//board")
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1].startswith("error: 'ssh//board' is not a device URL")
    project = load_project(tmp_path / "out" / "project.toml")
    assert project.budget.max_metric_drop == 0.1
    assert project.budget.max_p90_ms == 2
    assert list(project.targets) == ["local"]
    assert project.search.max_peak_rss_bytes == 90_000_000
    with np.load(tmp_path / "out" / "train.npz") as learning, np.load(tmp_path / "out" / "evaluation.npz") as held_back:
        assert (len(learning["y"]), len(held_back["y"])) == (80, 20)
    assert tomllib.loads((tmp_path / "out" / "project.toml").read_text())["model"] == str(digits.model)


def test_data_without_labels(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=digits.train["image"][:50])
    ended = edgekit("search", digits.model, "--data", tmp_path / "d.npz", "--max-drop", 0.1, "-o", tmp_path / "out")
    assert ended.exit_code == 2
    assert "no labels; add an array 'y' of class numbers" in ended.stderr
