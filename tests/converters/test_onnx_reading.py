"""ONNX files that do not open, each with its one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from edgekit_onnx import converter, reading
from edgekit_onnx.graphs import open_model
from edgekit_onnx.reading import read_model

from edgekit import workers
from edgekit.errors import ConversionError
from tests.converters.test_onnx_outside import model


def saved(folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    made = model()
    change(made)
    path = folder / "x.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def newer_opset(made: onnx.ModelProto) -> None:
    made.opset_import[0].version = onnx.defs.onnx_opset_version() + 1


def newer_ir(made: onnx.ModelProto) -> None:
    made.ir_version = onnx.IR_VERSION + 1


def unknown_operator(made: onnx.ModelProto) -> None:
    made.graph.node[0].op_type = "Gemmm"


def no_domain(made: onnx.ModelProto) -> None:
    made.graph.node[0].domain = "my.domain"


def a_loop_in_the_graph(made: onnx.ModelProto) -> None:
    made.graph.node[0].input[0] = "y"


def no_version(made: onnx.ModelProto) -> None:
    del made.opset_import[:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer_opset, "knows up to"),
        (newer_ir, "export it with an older one (opset_version=17), or pip install -U onnx onnxruntime"),
        (unknown_operator, "ONNX has no operator Gemmm in opset 17 (node '/fc/Gemm'): export that layer"),
        (no_domain, "not an ONNX model (No opset import for domain 'my.domain'"),
        (a_loop_in_the_graph, "not an ONNX model (Nodes in a graph must be topologically sorted"),
        (no_version, "must specify opset_import for ONNX"),
    ],
)
def test_a_file_that_does_not_open(tmp_path: Path, change: Callable[[onnx.ModelProto], object], message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        read_model(saved(tmp_path, change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_nodes_than_any_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_PARTS", 2)
    with pytest.raises(ConversionError, match="3 nodes and constants, at most 2 are read"):
        read_model(saved(tmp_path, lambda _: None))


def test_a_file_larger_than_a_protocol_buffer(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 31)  # takes no room on the disk
    with pytest.raises(ConversionError, match=r"2,147,483,648 bytes, and one file holds at most 2,147,483,647"):
        open_model(path)


def test_nesting_without_end(tmp_path: Path) -> None:
    content = b""
    for _ in range(3000):  # an attribute that holds a graph that holds a node that holds an attribute
        content = _field(5, _field(6, _field(1, content)))
    path = tmp_path / "x.onnx"
    path.write_bytes(_field(7, _field(1, content)))
    with pytest.raises(ConversionError, match="not an ONNX model"):
        read_model(path)


@pytest.mark.slow
def test_a_small_file_that_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(_field(7, _field(1, b"") * 15_000_000))  # nodes of two bytes each
    with pytest.raises(ConversionError, match="not an ONNX model"):
        open_model(path)


def _field(number: int, content: bytes) -> bytes:
    """A protocol buffer's field of bytes."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


@pytest.mark.parametrize("name", [b"/fc/Gemm", b"fc.weight", b"Gemm"])
def test_a_name_that_is_no_text(tmp_path: Path, name: bytes) -> None:
    path = saved(tmp_path, lambda _: None)
    path.write_bytes(path.read_bytes().replace(name, b"\xff" * len(name)))
    with pytest.raises(ConversionError, match="is no UTF-8 text"):
        read_model(path)


def test_a_file_is_opened_in_a_process_of_its_own_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, called = saved(tmp_path, lambda _: None), []

    def call(module: str, *arguments: object, **settings: object) -> dict[str, object]:
        called.append(module)
        return {}

    monkeypatch.setattr(workers, "call", call)
    converter.inspect(path)
    converter.inspect(path)
    assert called == ["edgekit_onnx.opening_worker"]
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))  # somebody wrote it again
    converter.inspect(path)
    assert len(called) == 2


def test_what_fails_in_that_process_is_said_here(tmp_path: Path) -> None:
    path = saved(tmp_path, unknown_operator)
    with pytest.raises(ConversionError, match=r"x\.onnx: ONNX has no operator Gemmm"):
        converter.inspect(path)
