"""Inputs that become constants: the file computes what one does whose constants TensorFlow's converter saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import converter, writing
from edgekit_tflite.inspection import inspect_model
from edgekit_tflite.reading import mapped

from edgekit.conversion import Source
from edgekit.errors import ConversionError
from edgekit.exporting import save_functions
from edgekit.tensors import TensorSpec
from tests.converters.tflite_files import buffers

VOCABULARY, WIDTH, LENGTH = 200, 96, 4
INPUTS = (TensorSpec("tokens", (None, LENGTH), "int32"),)
OUTPUTS = (TensorSpec("logits", (None, LENGTH, VOCABULARY), "float32"),)
FIRST, SECOND = "first", "second"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "table": generator.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
        "kernel": generator.normal(size=(WIDTH, 2 * WIDTH)).astype(np.float32),
        "narrow": generator.normal(size=(2 * WIDTH, WIDTH)).astype(np.float32),
        "places": generator.normal(size=(WIDTH, 2 * LENGTH)).astype(np.float32),
    }


def source(work: Path, arrays: Mapping[str, np.ndarray], *, apart: bool) -> Source:
    """A table that is read both ways around two layers, in two signatures; kernels are given as TFLite stores them."""
    import keras

    held = {name: keras.Variable(array, name=name) for name, array in arrays.items()}
    bias = keras.Variable(np.linspace(-1, 1, 2 * WIDTH, dtype=np.float32))
    turned = ("kernel", "narrow")

    def compute(tokens: Any, given: Mapping[str, Any]) -> Any:
        values = {name: keras.ops.transpose(given[name]) if name in turned else given[name] for name in given}
        with keras.StatelessScope([(held[name], value) for name, value in values.items()]):
            x = keras.ops.take(held["table"], tokens, axis=0)
            x = x + keras.ops.take(keras.ops.transpose(held["places"]), tokens % LENGTH, axis=0)
            x = keras.ops.relu(keras.ops.matmul(x, held["kernel"]) + bias)
            return keras.ops.matmul(keras.ops.matmul(x, held["narrow"]), keras.ops.transpose(held["table"]))

    def first(tokens: Any, **given: Any) -> dict[str, Any]:
        return {"logits": compute(tokens, given)}

    def second(tokens: Any, **given: Any) -> dict[str, Any]:
        return {"logits": keras.ops.softmax(compute(tokens, given))}

    functions = {FIRST: (first, INPUTS), SECOND: (second, INPUTS)}
    stored = {name: array.T if name in turned else array for name, array in arrays.items()}
    specs = [TensorSpec(name, array.shape, "float32") for name, array in stored.items()]
    variables = [bias] if apart else [*held.values(), bias]
    save_functions("both", work / "model", functions, variables, constants=specs if apart else ())
    if apart:
        (work / "constants").mkdir()
        for name, array in stored.items():
            np.save(work / "constants" / f"{name}.npy", array)
    return Source(
        "both", INPUTS, OUTPUTS, work / "model", None, work, state="variables", signature=FIRST,
        other_signatures=(SECOND,), constants=work / "constants" if apart else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def apart(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source(tmp_path_factory.mktemp("apart"), arrays, apart=True)


@pytest.fixture(scope="module")
def made(apart: Source) -> Path:
    return converted(apart, "fp32")


def converted(source: Source, precision: str) -> Path:
    output = source.work / f"{precision}.tflite"
    return converter.convert(source, precision=precision, calibration=None, output=output).path


def outputs(path: Path) -> dict[str, np.ndarray]:
    tokens, interpreter = np.array([[3, 0, 199, 7]], np.int32), Interpreter(str(path))
    return {name: interpreter.get_signature_runner(name)(tokens=tokens)["logits"] for name in (FIRST, SECOND)}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic-int8", "int4-weights"])
def test_the_file_is_as_if_the_converter_had_seen_them(
    arrays: dict[str, np.ndarray], apart: Source, tmp_path: Path, precision: str
) -> None:
    seen, given = converted(source(tmp_path, arrays, apart=False), precision), converted(apart, precision)
    for name, expected in outputs(seen).items():
        np.testing.assert_array_equal(outputs(given)[name], expected, err_msg=name)
    kinds, expected_kinds = (
        [(layer.type, layer.bytes) for layer in inspect_model(path).layers] for path in (given, seen)
    )
    assert kinds == expected_kinds


def test_each_constant_is_stored_once_and_aligned(arrays: dict[str, np.ndarray], made: Path) -> None:
    content = made.read_bytes()
    stored = [content for _, content in buffers(content)]
    for name in ("kernel", "narrow", "places"):
        assert stored.count(arrays[name].T.tobytes()) == 1
    assert stored.count(arrays["table"].tobytes()) == 1
    assert not [place for place, values in buffers(content) if len(values) >= arrays["kernel"].nbytes and place % 16]


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("kernel", np.zeros((WIDTH, 2 * WIDTH), np.float32), r"kernel.npy has shape \(96, 192\) float32.*\(192, 96\)"),
        ("kernel", np.zeros((2 * WIDTH, WIDTH), np.float16), r"kernel.npy has shape \(192, 96\) float16.*float32"),
        ("other", np.zeros((2, 2), np.float32), "takes .*kernel.*, expected 'other' among them"),
    ],
)
def test_a_constant_that_does_not_fit_is_refused(
    arrays: dict[str, np.ndarray], tmp_path: Path, name: str, array: np.ndarray, said: str
) -> None:
    damaged = source(tmp_path, arrays, apart=True)
    np.save(tmp_path / "constants" / f"{name}.npy", array)
    with pytest.raises(ConversionError, match=said):
        converted(damaged, "fp32")
    assert not (tmp_path / "fp32.tflite").exists()


def test_more_than_a_flatbuffer_holds_is_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import schema_py_generated as schema

    monkeypatch.setattr(writing, "_MOST", 100_000)
    model = schema.ModelT.InitFromPackedBuf(mapped(made), 0)
    with pytest.raises(ConversionError, match=r"written.tflite would have more than 100,000 bytes"):
        writing.write_model(model, tmp_path / "written.tflite")
