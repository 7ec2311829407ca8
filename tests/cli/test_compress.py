from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgekit as package
from tests.conftest import Digits
from tests.disk import below_a_file, no_space_beyond

Run = Callable[..., Any]

RECIPE = """\
[[compress]]
step = "prune"
sparsity = 0.5
epochs = 2

[training]
patience = 5
metric = "top1"
"""


@pytest.fixture
def folder(tmp_path: Path, digits: Digits) -> Path:
    np.savez(tmp_path / "train.npz", **digits.few(320))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def arguments(folder: Path, digits: Digits, **changes: object) -> list[object]:
    given = {
        "--recipe": folder / "recipe.toml",
        "--data": folder / "train.npz",
        "-o": folder / "small.keras",
        **changes,
    }
    return ["compress", digits.model, *(word for pair in given.items() for word in pair if pair[1] is not None)]


def test_a_model_is_compressed(edgekit: Run, folder: Path, digits: Digits) -> None:
    ended = edgekit(*arguments(folder, digits), "--json")
    assert ended.exit_code == 0, ended.stderr
    made = keras.saving.load_model(folder / "small.keras")
    assert ended.json["output"] == str(folder / "small.keras")
    assert ended.json["bytes"] == (folder / "small.keras").stat().st_size
    assert ended.json["parameters"] == ended.json["original_parameters"] == made.count_params()
    assert ended.json["sparsity"] == pytest.approx(package.load(folder / "small.keras").sparsity)
    assert [step["step"] for step in ended.json["recipe"]] == ["prune"]
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.toml", "small.keras", "train.npz"]


def test_weights_alone_are_compressed_with_what_builds_their_model(edgekit: Run, folder: Path, digits: Digits) -> None:
    whole = keras.saving.load_model(digits.model)
    whole.save_weights(folder / "digits.weights.h5")
    (folder / "own_model.py").write_text(
        f"import keras\n\ndef build():\n    return keras.saving.load_model({str(digits.model)!r})\n"
    )
    argv = ["compress", folder / "digits.weights.h5", *arguments(folder, digits)[2:]]
    assert "say what builds the model, with --architecture" in edgekit(*argv).stderr
    ended = edgekit(*argv, "--architecture", "own_model:build", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["sparsity"] > 0.4


def test_the_text_tells_the_layers(edgekit: Run, folder: Path, digits: Digits) -> None:
    (folder / "recipe.toml").write_text('[[compress]]\nstep = "prune"\nsparsity = 0.5\nepochs = 0\n')
    ended = edgekit(*arguments(folder, digits, **{"--data": None}))
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.startswith(f"{folder / 'small.keras'}: from 1,")
    assert "conv (Conv2D): 72 weights, 50% zero" in ended.stdout


def test_a_loss_and_a_metric_of_the_users_own_stand_beside_the_recipe(
    edgekit: Run, folder: Path, digits: Digits
) -> None:
    (folder / "own_training.py").write_text(
        "import keras\n"
        "def loss(y, p): return keras.ops.mean(keras.ops.square(keras.ops.one_hot(y, 10) - p), axis=-1)\n"
        "def metric(outputs, y): return float((outputs['probabilities'].argmax(axis=1) == y).mean())\n"
    )
    own = RECIPE.replace('metric = "top1"', 'metric = "own_training:metric"\nloss = "own_training:loss"')
    (folder / "recipe.toml").write_text(own)
    ended = edgekit(*arguments(folder, digits))
    assert ended.exit_code == 0, ended.stderr
    assert package.load(folder / "small.keras").sparsity > 0.4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"prune"', '"prun"', "recipe.toml: [[compress]] 1: unknown step 'prun'; did you mean 'prune'?"),
        ("patience = 5", "patiens = 5", "recipe.toml: unknown key 'patiens' in [training]; did you mean 'patience'?"),
        ("patience = 5", "patience = 0", "recipe.toml: training.patience must be a whole number, 1 or more, got 0"),
        ("patience = 5", "loss = 3", "recipe.toml: training.loss is 3, expected a name or module:function"),
        (
            "patience = 5",
            'loss = "mean_squared_eror"',
            "unknown loss 'mean_squared_eror'; did you mean 'mean_squared_er",
        ),
        ("patience = 5", 'loss = "none:none"', "loss: cannot import 'none:none'"),
        ('"top1"', '"top-1"', "unknown metric 'top-1'; did you mean 'top1'?"),
        ("[[compress]]", "[compress]", "recipe.toml: compress is {"),
        ("[training]", "[trainings]", "recipe.toml: unknown key 'trainings'; did you mean 'training'?"),
    ],
)
def test_a_mistake_in_the_recipe(edgekit: Run, folder: Path, digits: Digits, old: str, new: str, message: str) -> None:
    (folder / "recipe.toml").write_text(RECIPE.replace(old, new, 1))
    ended = edgekit(*arguments(folder, digits))
    assert ended.exit_code == 2
    assert message in ended.stderr.splitlines()[-1]
    assert not (folder / "small.keras").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--recipe": "none.toml"}, "cannot read recipe none.toml: No such file"),
        ({"-o": "small.h5"}, "output is small.h5, expected a name that ends in .keras"),
        ({"--data": None}, "step 'prune' needs training data: give data"),
        ({"--data": "none.npz"}, "no file none.npz"),
    ],
)
def test_a_wrong_request(edgekit: Run, folder: Path, digits: Digits, changes: Any, message: str) -> None:
    ended = edgekit(*arguments(folder, digits, **changes), "--json")
    assert ended.exit_code == 2
    assert message in ended.json["error"]["message"]


def test_an_empty_recipe(edgekit: Run, folder: Path, digits: Digits) -> None:
    (folder / "recipe.toml").write_text("[training]\n")
    ended = edgekit(*arguments(folder, digits))
    assert (ended.exit_code, "recipe.toml: no steps; add a table" in ended.stderr) == (2, True)


def test_an_output_that_cannot_be_written(edgekit: Run, folder: Path, digits: Digits) -> None:
    ended = edgekit(*arguments(folder, digits, **{"-o": below_a_file(folder) / "small.keras"}))
    assert ended.exit_code == 2
    assert "Not a directory; choose another folder with -o" in ended.stderr


def test_no_space(edgekit: Run, folder: Path, digits: Digits) -> None:
    with no_space_beyond(3000):
        ended = edgekit(*arguments(folder, digits))
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert not (folder / "small.keras").exists()


def started(*argv: object) -> subprocess.Popen[bytes]:
    one_thread = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    words = [sys.executable, "-m", "edgekit", *map(str, argv)]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True, env=os.environ | one_thread)


@pytest.mark.parametrize(
    "step",
    [
        'step = "prune"\nsparsity = 0.6\nepochs = 8',
        pytest.param('step = "distill"\nwidth = 0.5\nepochs = 8', marks=pytest.mark.slow),
        pytest.param('step = "cluster"\nclusters = 8\nepochs = 8', marks=pytest.mark.slow),
        pytest.param('step = "quantize-aware"\nepochs = 8', marks=pytest.mark.slow),
        pytest.param('step = "quantize-weights"\nscheme = "ternary"\nepochs = 8', marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(folder: Path, digits: Digits, step: str) -> None:
    """A real SIGKILL in the middle of an epoch, with early stopping on.

    Each run is a process of its own with one thread in TensorFlow: how it shares sums among several may depend on what
    else the machine does.
    """
    recipe = f"[[compress]]\n{step}\nbatch_size = 4\n[training]\npatience = 2\n"
    (folder / "recipe.toml").write_text(recipe)
    assert started(*arguments(folder, digits, **{"-o": folder / "whole.keras"})).wait() == 0
    process = started(*arguments(folder, digits))
    try:
        deadline = time.monotonic() + 300
        while not list(folder.glob(".small.keras.work/steps/*/epoch-0002.npz")):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (folder / "small.keras").exists()
    assert started(*arguments(folder, digits), "--resume").wait() == 0
    both = [package.load(folder / name) for name in ("whole.keras", "small.keras")]
    for weight, expected in zip(*(each.model.get_weights() for each in both), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert not (folder / ".small.keras.work").exists()
