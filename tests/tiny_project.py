"""A whole project about the tiny digits, as a user would have it on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import Digits

PROJECT = """\
name = "tiny"
version = "0.1.0"
model = "digits.keras"
labels = "labels.txt"

[data]
train = "train.npz"
evaluation = "test.npz"

[[compress]]
step = "distill"
width = 0.75
epochs = 2

[[compress]]
step = "prune"
sparsity = 0.5
epochs = 2

[[compress]]
step = "quantize-aware"
epochs = 1

[targets.android-arm64]
[targets.jetson-orin-nano]
[targets.local]

[metadata]
description = "Digits of 8 by 8 pixels."
author = "edgekit's tests"
license = "Apache-2.0"

[preprocessing.image.picture]
resize = [8, 8]
color = "grayscale"
mean = [0]
std = [255]

[budget]
max_bytes = 100_000
"""


def write_project(folder: Path, digits: Digits, text: str = PROJECT) -> Path:
    for source in (digits.model, digits.train_file, digits.test_file):
        shutil.copy(source, folder / source.name)
    (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    (folder / "project.toml").write_text(text)
    return folder / "project.toml"
