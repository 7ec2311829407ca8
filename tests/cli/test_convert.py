from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import conversion
from edgekit.conversion import CONVERTERS
from tests.conftest import Digits
from tests.disk import below_a_file, no_space_beyond

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def float_file(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgekit.cli import main

    path = tmp_path_factory.mktemp("given") / "digits.tflite"
    assert main(["convert", str(digits.model), "--to", "tflite", "-o", str(path)]) == 0
    return path


def test_a_model_is_converted(float_file: Path, digits: Digits) -> None:
    from ai_edge_litert.interpreter import Interpreter

    import edgekit as package

    interpreter = Interpreter(str(float_file))
    interpreter.allocate_tensors()
    image = digits.test["image"][:1]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    wanted = package.load(digits.model).predict({"image": image})["probabilities"]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_layers_are_called_by_their_keras_names(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    output = tmp_path / "x.tflite"
    argv = ("--to", "tflite", "--precision", "int8", "--calibration", digits.train_file, "-o", output)
    ended = edgekit(
        "convert", digits.model, *argv, "--keep-float", "depth*", "--layer", "probabilities=int16x8", "--json"
    )
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["bytes"] == output.stat().st_size
    assert (ended.json["format"], ended.json["precision"]) == ("tflite", "int8")
    assert [layer.split()[-1] for layer in ended.json["float_layers"]] == ["(DEPTHWISE_CONV_2D)"]
    assert precisions(edgekit, output)["SOFTMAX"] == "int16"


def precisions(edgekit: Run, path: Path) -> dict[str, str]:
    return {layer["type"]: layer["precision"] for layer in edgekit("inspect", path, "--json").json["layers"]}


def test_a_float_tflite_file_is_quantized(edgekit: Run, digits: Digits, float_file: Path, tmp_path: Path) -> None:
    int8 = tmp_path / "int8.tflite"
    argv = ("--to", "tflite", "--precision", "int8", "--calibration", digits.train_file)
    ended = edgekit("convert", float_file, *argv, "--keep-float", "*/probabilities_1/*", "-o", int8)
    assert ended.exit_code == 0, ended.stderr
    assert precisions(edgekit, int8)["FULLY_CONNECTED"] == "fp32"
    again = edgekit("convert", int8, *argv[:4], "-o", tmp_path / "again.tflite", "--json")
    assert again.json["notes"] == ["it was int8 already: passed through unchanged"]
    assert (tmp_path / "again.tflite").read_bytes() == int8.read_bytes()
    for precision, more, message in (
        ("fp32", (), "is quantized already (int8), so its float weights are gone and fp32 cannot be made of it"),
        ("int8", ("--algorithm", "mse"), "is int8 already, so algorithm cannot apply"),
    ):
        ended = edgekit(
            "convert", int8, "--to", "tflite", "--precision", precision, *more, "-o", tmp_path / "no.tflite"
        )
        assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
        assert message in ended.stderr
        assert not (tmp_path / "no.tflite").exists()


def test_a_tflite_file_without_a_signature(edgekit: Run, tmp_path: Path) -> None:
    from tests.tiny_models import IMAGES, float_tflite

    (tmp_path / "tiny.tflite").write_bytes(float_tflite())
    np.savez(tmp_path / "c.npz", x=np.concatenate([IMAGES, IMAGES]))
    argv = ("--precision", "int8", "--calibration", tmp_path / "c.npz", "-o", tmp_path / "x.tflite")
    ended = edgekit("convert", tmp_path / "tiny.tflite", "--to", "tflite", *argv)
    assert ended.exit_code == 0, ended.stderr
    assert "16 samples; ranges measured on 100 or more hold better" in ended.stdout
    assert precisions(edgekit, tmp_path / "x.tflite") == {"FULLY_CONNECTED": "int8"}


@pytest.mark.parametrize(("flag", "value"), [("--length", "image=4"), ("--state", "variables")])
def test_a_tflite_file_has_its_lengths_and_its_state_already(
    edgekit: Run, float_file: Path, tmp_path: Path, flag: str, value: str
) -> None:
    ended = edgekit("convert", float_file, "--to", "tflite", flag, value, "-o", tmp_path / "x.tflite")
    assert ended.exit_code == 2
    assert f"{flag} is for a Keras model, and digits.tflite holds none: leave it out" in ended.stderr


def test_a_tflite_file_becomes_nothing_else(edgekit: Run, float_file: Path, tmp_path: Path) -> None:
    ended = edgekit("convert", float_file, "--to", "onnx", "-o", tmp_path / "x.onnx")
    assert ended.exit_code == 2
    assert "digits.tflite cannot become onnx: a file that is converted already is only quantized" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--to", "tflite", "--algorithm", "gpt", "-o", "x.tflite"), "algorithm is 'gpt'; did you mean 'gptq'?"),
        (("--to", "tflite", "--layer", "head", "-o", "x.tflite"), "--layer is 'head', expected PATTERN=PRECISION"),
        (("--to", "tflite", "--op", "ADD=int9", "-o", "x.tflite"), "ops.ADD is 'int9'; did you mean 'int8'?"),
        (("--to", "onnx", "--weight-only", "-o", "x.onnx"), "settings of --to onnx: unknown key 'weight_only'"),
        (("--to", "onnx", "--opset", "13", "-o", "x.onnx"), "settings of --to onnx: opset is 13, expected 17 or 18"),
        (("--to", "onnx", "--layout", "nhw", "-o", "x.onnx"), "settings of --to onnx: layout is 'nhw'"),
        (("--to", "tflite", "--batch", "static", "-o", "x.tflite"), "settings of --to tflite: unknown key 'batch'"),
        (
            ("--to", "tflight", "-o", "x.tflite"),
            "no converter 'tflight' (installed: onnx, tensorrt, tflite); did you mean 'tflite'?",
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


def test_a_format_whose_extra_is_not_installed(
    edgekit: Run, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [point for point in entry_points(group=CONVERTERS) if point.name != "tensorrt"]
    monkeypatch.setattr(conversion, "entry_points", lambda group: ours)
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


BOTH = ("--signature", "encode", "--signature", "decode")


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of two functions that share a table of 64 by 64 ones over 64."""
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.Variable(tf.ones((64, 64)) / 64)
    encode = tf.function(lambda x: {"code": tf.matmul(x, module.table)})
    decode = tf.function(lambda code: {"back": tf.matmul(code, module.table), "sum": tf.reduce_sum(code, 1)})
    signatures = {
        "encode": encode.get_concrete_function(tf.TensorSpec((None, 64), name="x")),
        "decode": decode.get_concrete_function(tf.TensorSpec((None, 64), name="code")),
    }
    folder = tmp_path_factory.mktemp("coder") / "coder"
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def test_signatures_of_a_saved_model_keep_their_names(edgekit: Run, coder: Path, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    output = tmp_path / "both.tflite"
    ended = edgekit("convert", coder, "--to", "tflite", *BOTH, "-o", output)
    assert ended.exit_code == 0, ended.stderr
    assert output.stat().st_size < 2 * 4 * 64 * 64  # the table is there once
    interpreter, x = Interpreter(str(output)), np.arange(64, dtype=np.float32).reshape(1, 64)
    for name, taken, given in (("encode", "x", "code"), ("decode", "code", "back")):
        found = interpreter.get_signature_runner(name)(**{taken: x})[given]
        np.testing.assert_allclose(found, np.full((1, 64), x.mean()), rtol=1e-5)
    shown = edgekit("inspect", output, "--json").json
    assert [(it["name"], [spec["name"] for spec in it["inputs"]]) for it in shown["signatures"]] == [
        ("encode", ["x"]),
        ("decode", ["code"]),
    ]
    assert [spec["name"] for spec in shown["inputs"]] == ["x"]  # of the first that was named
    assert "signature 'decode'\ninput  'code' (1, 64) float32\noutput 'back'" in edgekit("inspect", output).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--precision", "int8"),
            "its signatures differ in their operators, so that ranges measured by one do not fit",
        ),
        (
            ("--precision", "dynamic-int8", "--algorithm", "gptq"),
            "algorithm gptq learns from the calls of one signature",
        ),
    ],
)
def test_what_is_learned_from_calls_is_not_for_functions_that_differ(
    edgekit: Run, coder: Path, tmp_path: Path, argv: tuple[str, ...], message: str
) -> None:
    np.savez(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32))
    more = ("--calibration", tmp_path / "c.npz", "-o", tmp_path / "x.tflite")
    ended = edgekit("convert", coder, "--to", "tflite", *BOTH, *argv, *more)
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert message in ended.stderr


def test_a_keras_model_has_no_signature_to_choose(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    ended = edgekit("convert", digits.model, "--to", "tflite", "--signature", "x", "-o", tmp_path / "x.tflite")
    assert ended.exit_code == 2
    assert "--signature is for a SavedModel without Keras, and digits.keras is none: leave it out" in ended.stderr


def test_a_saved_model_without_keras(edgekit: Run, tmp_path: Path) -> None:
    import tensorflow as tf

    traced = tf.function(lambda x: {"y": tf.matmul(x, tf.ones((4, 2)))})
    module = tf.Module()
    signature = traced.get_concrete_function(tf.TensorSpec((None, 4), name="x"))
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures=signature)
    np.savez(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    argv = ("--to", "tflite", "--precision", "int8", "--calibration", tmp_path / "c.npz", "-o", tmp_path / "x.tflite")
    ended = edgekit("convert", tmp_path / "plain", *argv)
    assert ended.exit_code == 0, ended.stderr
    assert precisions(edgekit, tmp_path / "x.tflite") == {"FULLY_CONNECTED": "int8"}
