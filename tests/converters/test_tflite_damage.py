"""Damaged TFLite files: each is read, or refused in one line, and LiteRT never opens one in edgekit's own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_tflite import converter, reading
from edgekit_tflite.embedding import embed
from edgekit_tflite.metadata import to_flatbuffer

from edgekit.errors import ConversionError
from tests.converters.test_tflite_metadata import CARD
from tests.converters.tflite_fuzz import FLIPS, KINDS, TRUNCATIONS
from tests.tiny_models import float_tflite, int8_tflite, relu_tflite

PROGRAM = Path(__file__).with_name("tflite_fuzz.py")


def fuzz(kind: str, content: bytes, folder: Path, count: int | None = None) -> Counter[str]:
    """How often each word came first in how a try ended; every try must have ended, and none escaped."""
    file = folder / "given.tflite"
    file.write_bytes(content)
    argv = [sys.executable, str(PROGRAM), kind, str(file), str(folder), *([] if count is None else [str(count)])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=6000)
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (ended[-1:], done.stderr[-2000:])
    cases = TRUNCATIONS + FLIPS if count is None else count
    assert len(ended) == cases * len(KINDS[kind])
    assert [one for one in ended if one["ended"].startswith("escaped")] == []
    return Counter(one["ended"].split(":")[0] for one in ended)


@pytest.mark.parametrize("make", [float_tflite, int8_tflite])
def test_nothing_but_a_refusal_comes_out_of_the_readers(make: Callable[[], bytes], tmp_path: Path) -> None:
    found = fuzz("readers", embed(make(), CARD, where="x"), tmp_path)
    assert found["refused"] > 300
    assert found["fine"] > 300


@pytest.mark.parametrize(("kind", "make", "count"), [("verbs", int8_tflite, 8), ("compare", float_tflite, 3)])
def test_the_command_line_survives(tmp_path: Path, kind: str, make: Callable[[], bytes], count: int) -> None:
    assert fuzz(kind, embed(make(), CARD, where="x"), tmp_path, count)["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision"),
    [("readers", "fp32"), ("readers", "int8"), ("verbs", "fp32"), ("verbs", "int8"), ("compare", "fp32")],
)
def test_damage_to_a_network(converted: Callable[..., Any], tmp_path: Path, kind: str, precision: str) -> None:
    content = converted("tflite", "classifier", precision).path.read_bytes()
    assert fuzz(kind, embed(content, CARD, where="x"), tmp_path)["refused"] > 40


def test_litert_opens_a_file_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(int8_tflite())
    monkeypatch.setattr(reading, "check_opens", lambda path: pytest.fail("opened here"))
    assert converter.inspect(path).parameters == 15
    path.write_bytes(b"no model")
    with pytest.raises(ConversionError, match=r"x\.tflite: not a TFLite file that LiteRT opens"):
        converter.inspect(path)


def test_a_crash_while_opening_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(reading, "_OPENER", "crashing")
    path = tmp_path / "x.tflite"
    path.write_bytes(int8_tflite())
    with pytest.raises(
        ConversionError, match=r"^opening .*x\.tflite: the process died of SIGSEGV; its last words: none$"
    ):
        converter.inspect(path)


def test_a_shape_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(relu_tflite(), 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.shape, tensor.shapeSignature = [1 << 14, 1 << 14, 1 << 14], None
    path = tmp_path / "x.tflite"
    path.write_bytes(packed(model))
    with pytest.raises(ConversionError, match=r"x\.tflite"):
        converter.inspect(path)


def test_numbers_of_metadata_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    content = embed(float_tflite(), CARD, where="x")
    stored = to_flatbuffer(CARD)
    half, nothing = b"\x00\x00\x00\x3f", b"\x00\x00\xc0\x7f"  # 0.5, the mean; not a number
    assert stored.count(half) == 1
    path = tmp_path / "x.tflite"
    path.write_bytes(content.replace(stored, stored.replace(half, nothing)))
    with pytest.raises(
        ConversionError, match=r"x\.tflite: its metadata is damaged \(ValueError: a number in it is nan\)"
    ):
        converter.inspect(path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(float_tflite().replace(b"serving_scores", b"serving_\xffcores"))
    with pytest.raises(
        ConversionError, match=r"x\.tflite is damaged \(UnicodeDecodeError: .*copy or make the file again"
    ):
        converter.inspect(path)


def test_an_operator_that_gives_nothing_is_no_damage(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(relu_tflite(), 0)
    graph, code, operator = model.subgraphs[0], schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = schema.BuiltinOperator.CALL_ONCE, 127, 1
    model.operatorCodes.append(code)
    operator.opcodeIndex, operator.inputs, operator.outputs = 1, [], []
    operator.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
    operator.builtinOptions = schema.CallOnceOptionsT()
    operator.builtinOptions.initSubgraphIndex = 1
    graph.operators.insert(0, operator)
    empty = schema.SubGraphT()
    empty.tensors, empty.inputs, empty.outputs, empty.operators = [], [], [], []
    model.subgraphs.append(empty)
    path = tmp_path / "x.tflite"
    path.write_bytes(packed(model))
    assert [(layer.name, layer.precision) for layer in converter.inspect(path).layers] == [
        ("CALL_ONCE", "none"), ("y", "fp32"),
    ]  # fmt: skip


def packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
