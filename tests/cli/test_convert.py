from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Digits
from tests.disk import below_a_file, no_space_beyond

Run = Callable[..., Any]


def test_a_model_is_converted(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    import edgekit as package

    output = tmp_path / "digits.tflite"
    ended = edgekit("convert", digits.model, "--to", "tflite", "-o", output, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["bytes"] == output.stat().st_size
    assert (ended.json["format"], ended.json["precision"], ended.json["float_layers"]) == ("tflite", "fp32", [])
    interpreter = Interpreter(str(output))
    interpreter.allocate_tensors()
    image = digits.test["image"][:1]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    wanted = package.load(digits.model).predict({"image": image})["probabilities"]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--to", "tflight", "-o", "x.tflite"),
            "no converter 'tflight' (installed: onnx, tflite); did you mean 'tflite'?",
        ),
        (("--to", "tflite", "--precision", "itn8", "-o", "x.tflite"), "tflite has no precision 'itn8'; did you mean"),
        (("--to", "tflite", "-o", "x.onnx"), "output is x.onnx, expected a name that ends in .tflite"),
        (("--to", "tflite", "-o", "x.tflite"), "no model file none.keras"),
    ],
)
def test_a_wrong_request(edgekit: Run, tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("convert", "none.keras", *argv)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not Path("x.tflite").exists()


def test_a_format_whose_extra_is_not_installed(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    ended = edgekit("convert", digits.model, "--to", "tensorrt", "-o", tmp_path / "x.engine")
    assert ended.exit_code == 2
    assert "no converter 'tensorrt' (installed: onnx, tflite): pip install \"edgekit[tensorrt]\"" in ended.stderr


def test_integers_without_calibration(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    argv = ("--to", "tflite", "--precision", "int8", "-o", tmp_path / "out" / "x.tflite")
    ended = edgekit("convert", digits.model, *argv)
    assert ended.exit_code == 2
    assert "calibration" in ended.stderr.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_calibration_data_that_does_not_fit(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", image=digits.train["image"][:20, :7])
    argv = ("--precision", "int8", "--calibration", tmp_path / "c.npz", "-o", tmp_path / "x.tflite")
    ended = edgekit("convert", digits.model, "--to", "tflite", *argv, "--json")
    assert ended.exit_code == 2
    assert ended.json["error"]["type"] == "DataError"
    assert "'image' has shape (20, 7, 8, 1) float32" in ended.json["error"]["message"]
    assert not (tmp_path / "x.tflite").exists()


def test_an_output_that_cannot_be_written_is_said_before_the_work(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    ended = edgekit("convert", digits.model, "--to", "tflite", "-o", below_a_file(tmp_path) / "x.tflite")
    assert ended.exit_code == 2
    assert "Not a directory; choose another folder with -o" in ended.stderr


def test_no_space(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    with no_space_beyond(2000):
        ended = edgekit("convert", digits.model, "--to", "tflite", "-o", tmp_path / "out" / "x.tflite")
    assert ended.exit_code == 2
    assert ended.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert list((tmp_path / "out").iterdir()) == []
