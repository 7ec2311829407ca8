"""Weights in other files than the one that was verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import EngineError
from edgekit.runtime import open_bundle
from edgekit.runtime.onnx_external import check_no_external_data
from tests.tiny_models import Part, float_onnx, pack

REFUSED = r"weight 'weights' is in another file, which nothing verifies: give an ONNX file that holds its weights"


def outside(location: str = "weights.bin") -> TensorProto:
    """The weights of a tiny model, said to be in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_weights(tensor: TensorProto) -> Any:
    model = onnx.load_from_string(float_onnx())
    kept = [item for item in model.graph.initializer if item.name != "weights"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, tensor])
    return model


def in_attribute(tensor: TensorProto) -> Any:
    model = with_weights(helper.make_tensor("other", TensorProto.FLOAT, [1], [0.0]))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weights"], value=tensor))
    return model


def in_branch(tensor: TensorProto) -> Any:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model = with_weights(helper.make_tensor("other", TensorProto.FLOAT, [1], [0.0]))
    model.graph.node.insert(0, helper.make_node("If", ["x"], ["weights"], then_branch=branch, else_branch=branch))
    return model


def in_function(tensor: TensorProto) -> Any:
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    model = with_weights(helper.make_tensor("other", TensorProto.FLOAT, [1], [0.0]))
    model.functions.append(helper.make_function("own", "f", [], ["y"], [node], [helper.make_opsetid("", 17)]))
    return model


def sparse(tensor: TensorProto) -> Any:
    model = with_weights(helper.make_tensor("other", TensorProto.FLOAT, [1], [0.0]))
    model.graph.sparse_initializer.add(values=tensor, dims=[3, 4])
    return model


@pytest.mark.parametrize("place", [with_weights, in_attribute, in_branch, in_function, sparse])
def test_weights_in_another_file_are_found_wherever_they_are(place: Callable[[TensorProto], Any]) -> None:
    with pytest.raises(EngineError, match=REFUSED):
        check_no_external_data(place(outside()).SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "*/_ORT_MEM_ADDR_/*"])
def test_the_runtime_loads_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "weights.bin").write_bytes(np.ones((3, 4), np.float32).tobytes())
    monkeypatch.chdir(tmp_path / "here")
    part = Part("onnx", "fp32", with_weights(outside(location)).SerializeToString(), "onnxruntime")
    with pytest.raises(EngineError, match=REFUSED):
        open_bundle(pack(tmp_path / "bundle", (part,)))


def test_a_tensor_in_two_pieces_is_merged_by_protobuf() -> None:
    """The field of a single message may come twice: the second time with the place alone."""
    piece = TensorProto(data_location=TensorProto.EXTERNAL)
    where = TensorProto()
    where.external_data.add(key="location", value="weights.bin")
    for part in (piece, where):
        node = onnx.NodeProto(op_type="Constant", output=["weights"])
        node.attribute.add(name="value", t=part)
        content = onnx.GraphProto(node=[node]).SerializeToString() + (b"" if part is where else b"\x12\x08location")
        model = b"\x3a" + bytes([len(content)]) + content
        with pytest.raises(EngineError, match="is in another file"):
            check_no_external_data(model)


def test_a_name_that_holds_the_word_is_let_through() -> None:
    model = onnx.load_from_string(float_onnx())
    model.graph.name = "location"
    model.graph.node[0].doc_string = "allocations"
    check_no_external_data(model.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [b"\x3a\x7flocation", b"\x3b\x01location", b"\xff" * 12 + b"location", b"\x3a\x09location\x08"],
    ids=["beyond its end", "a group", "a long number", "cut short"],
)
def test_what_is_no_protobuf_is_refused(content: bytes) -> None:
    with pytest.raises(EngineError, match="the ONNX file is damaged: "):
        check_no_external_data(content)


def test_the_format_of_onnx_runtime_itself_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime would read its own format as well, in which nobody has looked for other files."""
    part = Part("onnx", "fp32", b"\x20\x00\x00\x00ORTM" + bytes(64), "onnxruntime")
    with pytest.raises(EngineError, match=r"onnxruntime refuses the model: .*protobuf"):
        open_bundle(pack(tmp_path, (part,)))
