"""`edgekit convert model.onnx`: what it makes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TorchDigits

Run = Callable[..., Any]


def test_an_onnx_file_is_quantized_compared_and_looked_into(
    edgekit: Run, torch_digits: TorchDigits, tmp_path: Path
) -> None:
    int8 = tmp_path / "int8.onnx"
    argv = ("--to", "onnx", "--precision", "int8", "--calibration", torch_digits.train_file, "-o", int8)
    ended = edgekit("convert", torch_digits.model, *argv, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["float_layers"] == []
    (note,) = ended.json["notes"]
    assert note.startswith("calibration by SNR on 50 samples held apart: ")
    found = edgekit("inspect", int8, "--json").json
    assert found["precision"] == "int8"
    assert found["inputs"] == [{"name": "input.1", "shape": [None, 1, 8, 8], "dtype": "float32"}]
    kernels = [layer["precision"] for layer in found["layers"] if layer["type"] in ("Conv", "Gemm")]
    assert kernels == ["int8", "int8", "int8"]
    compared = edgekit("compare", torch_digits.model, int8, "--data", torch_digits.test_file, "--layers", "--json").json
    assert compared["snr_db"] > 30
    assert [layer["name"] for layer in compared["layers"]] == [
        "input.1", "layer1.0.conv1", "layer2.0.conv1", "fc", "Softmax",
    ]  # fmt: skip


def test_a_comparison_finds_the_weights_beside_a_file(edgekit: Run, torch_digits: TorchDigits, tmp_path: Path) -> None:
    from tests.pytorch_files import torch_model, with_outside_weights

    path = with_outside_weights(torch_model(torch_digits.weights, opset=9), tmp_path / "outside.onnx")
    compared = edgekit("compare", torch_digits.model, path, "--data", torch_digits.test_file, "--json").json
    assert compared["max_abs"] < 1e-5


def test_keras_is_not_needed(torch_digits: TorchDigits, tmp_path: Path) -> None:
    program = (
        "import sys; from edgekit.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or bool({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    argv = ("convert", torch_digits.model, "--to", "onnx", "--precision", "fp16", "-o", tmp_path / "x.onnx")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)], check=False, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--to", "tflite", "-o", "x.tflite"), "digits.onnx cannot become tflite: a file that is converted already is"),
        (
            ("--to", "onnx", "--state", "variables", "-o", "x.onnx"),
            "--to onnx has no variables: choose --state inputs-outputs",
        ),
        (
            ("--to", "onnx", "--signature", "a", "-o", "x.onnx"),
            "--signature is for a SavedModel without Keras, and digits",
        ),
        (
            ("--to", "onnx", "--architecture", "a:b", "-o", "x.onnx"),
            "--architecture is for a Keras model, and digits.onnx",
        ),
        (("--to", "onnx", "--precision", "int8", "-o", "x.onnx"), "needs calibration samples of 'input.1'"),
        (
            ("--to", "onnx", "--length", "input.1=8", "-o", "x.onnx"),
            "'input.1' (batch, 1, 8, 8) leaves nothing open but",
        ),
    ],
)
def test_a_wrong_request(
    edgekit: Run, torch_digits: TorchDigits, tmp_path: Path, argv: tuple[str, ...], message: str
) -> None:
    ended = edgekit("convert", torch_digits.model, *argv[:-1], tmp_path / argv[-1])
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert message in ended.stderr
    assert not (tmp_path / argv[-1]).exists()


def test_calibration_data_with_the_channels_last(
    edgekit: Run, torch_digits: TorchDigits, digits: Any, tmp_path: Path
) -> None:
    import numpy as np

    np.savez(tmp_path / "c.npz", x=digits.train["image"][:50])
    argv = ("--to", "onnx", "--precision", "int8", "--calibration", tmp_path / "c.npz", "-o", tmp_path / "x.onnx")
    ended = edgekit("convert", torch_digits.model, *argv)
    assert "'input.1' has shape (50, 8, 8, 1) float32, expected (batch, 1, 8, 8) float32" in ended.stderr


def test_an_onnx_file_is_no_keras_model(edgekit: Run, torch_digits: TorchDigits, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[compress]]\nstep = "prune"\nsparsity = 0.5\nepochs = 1\n')
    argv = ("--recipe", tmp_path / "r.toml", "--data", torch_digits.train_file, "-o", tmp_path / "x.keras")
    ended = edgekit("compress", torch_digits.model, *argv)
    assert ended.exit_code == 2
    assert (
        "digits.onnx: converted already, without a Keras model: it cannot be compressed, only converted" in ended.stderr
    )
