"""What a search refuses before it works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.budgets import Budget
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError
from edgekit.project import load_project
from edgekit.search.space import Recipe
from edgekit.search.subject import Subject, check_project, device_of, load_subject, split
from edgekit.search.trials import Job, job_key
from tests.conftest import Digits
from tests.search.conftest import write_project

RAW = """
[preprocessing.image.picture]
resize = [16, 16]
color = "grayscale"
mean = [0.0]
std = [255.0]
"""


def changed(digits: Digits, folder: Path, old: str, new: str) -> Path:
    path = write_project(digits, folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_metric_drop = 0.1", "max_drop = 0.1", r"unknown key 'max_drop' in \[budget\]"),
        ("max_metric_drop = 0.1", "max_bytes = 10", r"say how much it may lose, with max_metric_drop in \[budget\]"),
        ("trials = 12", "trails = 12", r"unknown key 'trails' in \[search\]; did you mean 'trials'\?"),
        ("trials = 12", "trials = 2", r"search\.trials must be a whole number, 4 or more, got 2"),
        ("finalists = 2", "finalists = 20", r"search\.finalists is 20, more than the 12 of search\.trials"),
        ("epochs = 2", 'steps = ["distil"]', r"search\.steps is 'distil'"),
        ("epochs = 2", 'steps = ["prune"]', r'search\.steps has "prune", whose zeros .* or set bytes = "packed"'),
        ("epochs = 2", "max_peak_rss_bytes = 0", r"search\.max_peak_rss_bytes must be a whole number, 1 or more"),
        ("epochs = 2", 'target = "pixel"', r"\[search\] target is 'pixel', which \[targets\] does not have; it has lo"),
        (
            "[targets.local]",
            "[targets.android-arm64]\n[targets.local]",
            r"2 targets \(.*\): say which in \[search\] tar",
        ),
    ],
)
def test_what_a_project_must_say(digits: Digits, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed(digits, tmp_path, old, new)
    with pytest.raises(ConfigError, match=message):
        check_project(load_project(path))


def test_latency_is_measured_on_the_projects_device_where_the_search_names_none(digits: Digits, tmp_path: Path) -> None:
    project = load_project(write_project(digits, tmp_path))
    board = replace(project, device="ssh://board")
    assert device_of(board) == "ssh://board"
    assert device_of(replace(board, search=replace(board.search, device="local:"))) == "local:"


def test_what_an_ordinary_build_is_judged_by_makes_it_another_build(subject: Subject) -> None:
    recipe = Recipe((), "int8", {})
    other = replace(subject, project=replace(subject.project, budget=Budget(max_metric_drop=0.2)))
    assert job_key(subject, Job(recipe, None)) != job_key(other, Job(recipe, None))
    assert job_key(subject, Job(recipe, 0)) == job_key(other, Job(recipe, 0)), "it has no report"


def test_raw_inputs_are_part_of_what_is_built(digits: Digits, tmp_path: Path, subject: Subject) -> None:
    path = write_project(digits, tmp_path)
    path.write_text(path.read_text() + RAW)
    assert load_subject(load_project(path)).identity != subject.identity


def test_data_to_train_on_is_needed(digits: Digits, tmp_path: Path) -> None:
    path = changed(digits, tmp_path, "train = ", "calibration = ")
    with pytest.raises(DataError, match=r"a search trains its finalists: give \[data\] train"):
        check_project(load_project(path))


def test_evaluation_data_is_needed(digits: Digits, tmp_path: Path) -> None:
    path = changed(digits, tmp_path, "evaluation = ", "calibration = ")
    with pytest.raises(ConfigError, match=r"missing key 'evaluation' in \[data\]"):
        load_project(path)


def test_a_converted_file_cannot_be_compressed(digits: Digits, tmp_path: Path) -> None:
    path = changed(digits, tmp_path, str(digits.model), "model.onnx")
    with pytest.raises(ConfigError, match=r"model\.onnx holds no Keras model, so .* nothing to search"):
        check_project(load_project(path))


def test_what_chooses_is_not_learned_from(subject: Subject) -> None:
    learned = {row.tobytes() for row in subject.learning.inputs["image"]}
    assert len(subject.validation) == 300
    assert len(subject.learning) == 1200
    assert not any(row.tobytes() in learned for row in subject.validation.inputs["image"])


def test_too_few_samples_to_hold_some_back() -> None:
    with pytest.raises(DataError, match=r"few: 4 samples are too few to hold some back; give at least 5"):
        split(Data({"x": np.zeros((4, 1), np.float32)}, np.zeros(4, np.int64), "few"))
