from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.project import load_project
from edgekit.search.subject import Subject, load_subject
from tests.conftest import Digits

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "{model}"

[data]
train = "{train}"
evaluation = "{test}"

[targets.local]
precision = ["fp16", "int8"]

[budget]
max_metric_drop = {drop}

[search]
trials = {trials}
finalists = {finalists}
epochs = {epochs}
"""


def write_project(
    digits: Digits, folder: Path, *, drop: float = 0.1, trials: int = 12, finalists: int = 2, epochs: int = 2
) -> Path:
    """A project file about the tiny digits."""
    path = folder / "project.toml"
    path.write_text(
        PROJECT.format(
            model=digits.model, train=digits.train_file, test=digits.test_file, drop=drop, trials=trials,
            finalists=finalists, epochs=epochs,
        )
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def subject(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(load_project(write_project(digits, tmp_path_factory.mktemp("subject"))))
