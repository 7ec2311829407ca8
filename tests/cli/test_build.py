"""What `edgekit build` makes of bad input: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tests.conftest import Digits
from tests.disk import below_a_file, no_space_beyond

Run = Callable[..., Any]

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "digits.keras"
labels = "labels.txt"

[data]
train = "train.npz"
evaluation = "test.npz"

[[compress]]
step = "quantize-aware"
epochs = 1

[targets.local]
precision = ["fp32"]
"""


@pytest.fixture
def folder(tmp_path: Path, digits: Digits) -> Path:
    """A sound project, whose files the tests then spoil."""
    folder = tmp_path / "project"
    folder.mkdir()
    for source in (digits.model, digits.train_file, digits.test_file):
        shutil.copy(source, folder / source.name)
    (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    (folder / "project.toml").write_text(PROJECT)
    return folder


@pytest.fixture
def refused(edgekit: Run, folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Build and give the one line that it ended with."""

    def run(output: Path | None = None) -> str:
        ended = edgekit("build", folder / "project.toml", "-o", output or tmp_path / "out")
        assert ended.exit_code == 2
        assert ended.stdout == ""
        *_, line = ended.stderr.splitlines()
        assert line.startswith("error: ")
        assert list((tmp_path / "out").rglob("*")) == []
        return str(line)

    return run


def edit(folder: Path, old: str, new: str) -> None:
    assert old in PROJECT
    (folder / "project.toml").write_text(PROJECT.replace(old, new, 1))


def save_data(folder: Path, name: str, **arrays: np.ndarray) -> None:
    np.savez(folder / name, **arrays)


def test_a_missing_project_file(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("build", tmp_path / "none.toml", "-o", tmp_path / "out", "--json")
    assert ended.exit_code == 2
    assert ended.json["error"]["type"] == "ConfigError"
    assert "cannot read project file" in ended.json["error"]["message"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("labels =", "lables =", "project.toml: unknown key 'lables'; did you mean 'labels'?"),
        ("train =", "trian =", "project.toml: unknown key 'trian' in [data]; did you mean 'train'?"),
        ("epochs = 1", "epoch = 1", "[[compress]] 1: unknown key 'epoch'; did you mean 'epochs'?"),
        ('"quantize-aware"', '"quantise-aware"', "unknown step 'quantise-aware'; did you mean 'quantize-aware'?"),
        ("[targets.local]", "[targets.locall]", "unknown target 'locall'; did you mean 'local'?"),
        ('"fp32"', '"pf32"', "target 'local': unknown precision 'pf32'; did you mean 'fp32'?"),
        (
            '[targets.local]\nprecision = ["fp32"]',
            '[targets.jetson-orin-nano]\nprecision = ["int16x8"]',
            "target 'jetson-orin-nano' does not take precision 'int16x8'; it takes fp32",
        ),
        (
            "[targets.local]",
            "[convert.tflite]\nkeep_flot = ['x']\n[targets.local]",
            "project.toml: [convert.tflite]: unknown key 'keep_flot'; did you mean 'keep_float'?",
        ),
        (
            "[targets.local]",
            "[metadata]\nauther = 'A'\n[targets.local]",
            "project.toml: unknown key 'auther' in [metadata]; did you mean 'author'?",
        ),
        (
            '[targets.local]\nprecision = ["fp32"]',
            '[metadata]\n[targets.jetson-orin-nano]\nprecision = ["fp16"]',
            "project.toml: [metadata]: no target of this build takes tflite, which holds it; leave it out",
        ),
        (
            "[targets.local]",
            "[metadata.inputs.img]\n[targets.local]",
            "[metadata.inputs.img]: the model has no such input; did you mean 'image'?",
        ),
        ('labels = "labels.txt"', 'labels = "label.txt"', "label.txt: No such file or directory"),
        ("[data]", '[data]\nmetric = "top-1"', "unknown metric 'top-1'; did you mean 'top1'?"),
        (
            "[targets.local]",
            '[[compress]]\nstep = "prune"\nsparsity = 0.5\n[targets.local]',
            "step 'quantize-aware' comes before 'prune'",
        ),
        ("[data]", "[data]\ncalibration_samples = 3", "calibration_samples is 3, expected at least 10"),
        ('train = "train.npz"\n', "", "calibration data is missing: give calibration, or train"),
        ('train = "train.npz"', 'calibration = "train.npz"', "training data for the recipe is missing: give train"),
        ('model = "digits.keras"', 'model = "digit.keras"', "no model file"),
        ('train = "train.npz"', 'train = "none.npz"', "no file"),
    ],
)
def test_a_mistake_in_the_project_file(
    refused: Callable[..., str], folder: Path, old: str, new: str, message: str
) -> None:
    edit(folder, old, new)
    assert message in refused()


def test_a_truncated_model(refused: Callable[..., str], folder: Path) -> None:
    whole = (folder / "digits.keras").read_bytes()
    (folder / "digits.keras").write_bytes(whole[: len(whole) // 2])
    assert "digits.keras: not a Keras model file, or cut short" in refused()


def test_a_file_that_is_not_a_model(refused: Callable[..., str], folder: Path) -> None:
    (folder / "digits.keras").write_text("hello")
    assert "digits.keras: not a Keras model file" in refused()
    with zipfile.ZipFile(folder / "digits.keras", "w") as archive:
        archive.writestr("photo.txt", "x")
    assert "digits.keras: not a .keras file, or cut short" in refused()


def test_a_lambda_layer_is_refused(refused: Callable[..., str], folder: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    doubled = layers.Lambda(lambda tensor: 2 * tensor, name="double")(image)
    keras.Model(image, layers.Dense(10)(layers.Flatten()(doubled))).save(folder / "digits.keras")
    assert "layer 'double' (Lambda) can run code when it is loaded" in refused()


def test_a_model_with_nothing_that_the_recipe_takes(refused: Callable[..., str], folder: Path) -> None:
    image = keras.Input((8, 8, 1), name="image")
    keras.Model(image, layers.Softmax()(layers.Flatten()(image))).save(folder / "digits.keras")
    (folder / "labels.txt").write_text("\n".join(map(str, range(64))))
    edit(folder, 'step = "quantize-aware"', 'step = "prune"\nsparsity = 0.5')
    assert "step 'prune' finds no kernel in" in refused()


def test_a_wrong_number_of_labels(refused: Callable[..., str], folder: Path) -> None:
    (folder / "labels.txt").write_text("zero\none\n")
    assert "2 labels, expected 10, one for each class" in refused()


def test_labels_that_are_not_utf_8(refused: Callable[..., str], folder: Path) -> None:
    (folder / "labels.txt").write_bytes(b"null\neins\nzw\xf6lf\n")
    assert "labels.txt: byte 12 is not UTF-8; save it as UTF-8" in refused()


def test_evaluation_data_without_labels(refused: Callable[..., str], folder: Path, digits: Digits) -> None:
    save_data(folder, "test.npz", image=digits.test["image"])
    assert "evaluation data" in refused()
    assert "no labels; add an array 'y'" in refused()


@pytest.mark.parametrize("name", ["train.npz", "test.npz"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda image, y: {"picture": image, "y": y}, "no array named 'image' for the model's input"),
        (
            lambda image, y: {"image": image[:, :7], "y": y},
            "has shape (20, 7, 8, 1) float32, expected (batch, 8, 8, 1)",
        ),
        (
            lambda image, y: {"image": (255 * image).astype(np.uint8), "y": y},
            "uint8, expected (batch, 8, 8, 1) float32",
        ),
        (lambda image, y: {"image": image * np.nan, "y": y}, "'image' holds NaN or infinity, first in sample 0"),
        (lambda image, y: {"image": image, "y": y + 10}, "expected 0 to 9"),
    ],
)
def test_data_that_does_not_fit(
    refused: Callable[..., str], folder: Path, digits: Digits, name: str, spoil: Any, message: str
) -> None:
    save_data(folder, name, **spoil(digits.train["image"][:20], digits.train["y"][:20]))
    line = refused()
    assert message in line
    assert name in line


def test_the_output_is_below_a_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "Not a directory; choose another folder with -o" in refused(below_a_file(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run it as another user")
def test_no_permission_for_the_output(refused: Callable[..., str], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "Permission denied; choose another folder with -o" in refused(locked / "sub")


def test_no_space_for_the_output(edgekit: Run, folder: Path, tmp_path: Path) -> None:
    with no_space_beyond(4000):
        ended = edgekit("build", folder / "project.toml", "-o", tmp_path / "out")
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert "File too large; free some space" in ended.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
