from __future__ import annotations

from pathlib import Path

import tomllib

from edgekit.compression import Factorize, PruneChannels
from edgekit.project import load_project
from edgekit.search.project_files import converted, step_settings, with_recipe, write_found
from edgekit.search.space import Recipe

SOURCE = """\
name = "digits"
version = "1.0.0"
model = "digits.keras"

[data]
train = "train.npz"
evaluation = "test.npz"
calibration_samples = 50

[[compress]]
step = "cluster"

[training]
patience = 3

[convert.tflite]
algorithm = "mse"
layers = { head = "fp16" }

[targets.android-arm64]
precision = ["int8"]

[targets.local]
precision = "auto"

[budget]
max_metric_drop = 0.01

[search]
target = "local"
"""
RECIPE = Recipe(
    (PruneChannels(0.5, 3, layers={"conv0": {"ratio": 0.25}}), Factorize(0.9, 3)),
    "int8",
    {"conv1": "int4-weights"},
)


def test_the_found_file_says_what_the_build_was_given(tmp_path: Path) -> None:
    source = tmp_path / "project.toml"
    source.write_text(SOURCE)
    found = write_found(source, tmp_path / "project-found.toml", "local", RECIPE)
    given = with_recipe(load_project(source), "local", RECIPE)
    assert (found.recipe, found.convert, found.targets) == (given.recipe, given.convert, given.targets)
    assert (found.data, found.training, found.budget) == (given.data, given.training, given.budget)
    content = tomllib.loads((tmp_path / "project-found.toml").read_text())
    assert "search" not in content
    assert content["convert"]["tflite"] == {"algorithm": "mse", "layers": {"head": "fp16", "conv1": "int4-weights"}}
    assert content["targets"] == {"local": {"precision": ["int8"]}}
    assert content["compress"][0] == {"step": "prune-channels", "ratio": 0.5, "layers": {"conv0": {"ratio": 0.25}}}


def test_layers_that_other_formats_keep_in_float() -> None:
    kept = {"conv": "fp32", "head": "int4-weights"}
    made = converted({"onnx": {"keep_float": ["a"]}, "tensorrt": {"x": 1}}, ("tflite", "onnx"), kept)
    assert made == {"onnx": {"keep_float": ["a", "conv"]}, "tflite": {"layers": kept}}


def test_a_step_without_its_defaults() -> None:
    assert step_settings(PruneChannels(0.5)) == {"step": "prune-channels", "ratio": 0.5}
    assert step_settings(Factorize(0.9, 2)) == {"step": "factorize", "energy": 0.9, "epochs": 2}
