"""One project gives the same bundle in every process, whatever its folder, its time zone and its hash seed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.conversion import find_converter
from edgekit.exporting import export_source
from edgekit.loading import load
from tests.conftest import Digits
from tests.keras_models import samples, shaken

PATIENCE_S = 900.0
PLACES = (  # a folder, and what is set there
    ("here", {"PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata"}),
    ("far/away", {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns"}),
)

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "digits.keras"

[data]
train = "train.npz"
evaluation = "test.npz"

[targets.local]
precision = ["fp16", "int8"]
"""
TRAINED = """
[[compress]]
step = "quantize-aware"
epochs = 1
"""


def test_a_build_gives_the_same_bytes(digits: Digits, tmp_path: Path) -> None:
    assert_same_bundles(digits, tmp_path, PROJECT)


@pytest.mark.slow
def test_a_trained_build_gives_the_same_bytes(digits: Digits, tmp_path: Path) -> None:
    assert_same_bundles(digits, tmp_path, PROJECT + TRAINED)


def encoder() -> Any:
    tokens = outputs = keras.Input((12, 16), name="tokens")
    for _ in range(2):
        outputs = layers.LayerNormalization()(outputs + layers.MultiHeadAttention(2, 8)(outputs, outputs))
        inner = layers.Dense(16)(layers.Dense(32, activation="gelu")(outputs))
        outputs = layers.LayerNormalization()(outputs + inner)
    pooled = layers.GlobalAveragePooling1D()(outputs)
    return keras.Model(tokens, layers.Dense(3, activation="softmax", name="scores")(pooled))


def recurrent() -> Any:
    series = keras.Input((10, 6), name="series")
    outputs = layers.Bidirectional(layers.GRU(5))(layers.LSTM(8, return_sequences=True)(series))
    return keras.Model(series, layers.Dense(2, name="scores")(outputs))


def mobilenet() -> Any:
    image = keras.Input((96, 96, 3), name="image")
    return keras.applications.MobileNetV2(input_tensor=image, weights=None, classes=10, alpha=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("make", [encoder, recurrent, mobilenet])
def test_a_conversion_gives_the_same_bytes(tmp_path: Path, make: Callable[[], Any], precision: str) -> None:
    model = shaken(make())
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "samples.npz", **samples(model))
    argv = ["convert", tmp_path / "model.keras", "--to", "onnx", "--precision", precision, "-o", "model.onnx"]
    argv += ["--calibration", tmp_path / "samples.npz"] if precision == "int8" else []
    folders = in_both_places(tmp_path, lambda _folder: [str(part) for part in argv])
    first, second = ((folder / "model.onnx").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.slow
def test_a_conversion_gives_the_same_bytes_after_others(tmp_path: Path) -> None:
    """Names of the functions that loops become are counted in the whole process."""
    recurrent().save(tmp_path / "model.keras")
    made = []
    for others in (0, 30):
        for number in range(others):
            export_source(load(keras.Sequential([keras.Input((4,)), layers.Dense(3)])), tmp_path / f"other-{number}")
        source = export_source(load(tmp_path / "model.keras"), tmp_path / f"after-{others}")
        output = tmp_path / f"{others}.onnx"
        find_converter("onnx").convert(source, precision="fp32", calibration=None, output=output)
        made.append(output.read_bytes())
    assert made[0] == made[1]


def assert_same_bundles(digits: Digits, folder: Path, project: str) -> None:
    def build(place: Path) -> list[str]:
        for source, name in (
            (digits.model, "digits.keras"), (digits.train_file, "train.npz"), (digits.test_file, "test.npz"),
        ):  # fmt: skip
            shutil.copy(source, place / name)
        (place / "project.toml").write_text(project)
        return ["build", "project.toml", "-o", "out"]

    bundles = [place / "out" / "digits-1.0.0.edgekit" for place in in_both_places(folder, build)]
    assert bundles[0].read_bytes() == bundles[1].read_bytes()


def in_both_places(folder: Path, command: Callable[[Path], Sequence[str]]) -> list[Path]:
    """The folders of PLACES, in each of which an edgekit command has run: both at once, in processes of their own."""
    started = []
    for name, settings in PLACES:
        place = folder / name
        place.mkdir(parents=True)
        argv, environment = [sys.executable, "-m", "edgekit", *command(place)], {**os.environ, **settings}
        process = subprocess.Popen(
            argv, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        started.append((place, process))
    for _, process in started:
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
    return [place for place, _ in started]
