"""What an ONNX file may say of weights that lie in other files, and what is refused before a byte is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit_onnx import converter, outside
from edgekit_onnx.graphs import open_model
from edgekit_onnx.outside import bring_in
from edgekit_onnx.reading import read_model
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ConversionError
from tests.pytorch_files import relocated, with_outside_weights

BYTES = 4 * 3 * 4  # of the first weights


def model() -> onnx.ModelProto:
    kernel, bias = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(3, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], name="/fc/Gemm", transB=1)],
        "main_graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch_size", 3])],
        [numpy_helper.from_array(kernel, "fc.weight"), numpy_helper.from_array(bias, "fc.bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return with_outside_weights(model(), tmp_path / "model" / "x.onnx")


def refused(path: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_beside_a_file_are_read(path: Path) -> None:
    opened = open_model(path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in opened.graph.initializer}
    np.testing.assert_array_equal(stored["fc.weight"], np.arange(12, dtype=np.float32).reshape(3, 4))
    assert {tensor.data_location for tensor in opened.graph.initializer} == {TensorProto.DEFAULT}
    found = converter.inspect(path)
    assert found.bytes == path.stat().st_size + BYTES + 12
    assert found.parameters == 15


def test_weights_in_a_folder_below_are_read(path: Path) -> None:
    (path.parent / "weights").mkdir()
    (path.parent / "weights.bin").rename(path.parent / "weights" / "weights.bin")
    opened = onnx.load(str(path), load_external_data=False)
    for tensor in opened.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "weights/weights.bin"
    path.write_bytes(opened.SerializeToString())
    assert len(read_model(path).graph.initializer[0].raw_data) == BYTES


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../secret.bin",
        "a/../../secret.bin",
        "./weights.bin",
        "",
        "C:weights.bin",
        "a\\b",
        "a\0b",
        "a//b",
    ],
)
def test_a_path_that_leaves_the_folder(path: Path, location: str) -> None:
    path.parent.with_name("secret.bin").write_bytes(bytes(BYTES))
    relocated(path, location=location, offset="0", length=str(BYTES))
    assert f"the weights of 'fc.weight' are in {location!r}, which leaves the model's folder" in refused(path)


def test_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(1000))
    (path.parent / "weights.bin").unlink()
    (path.parent / "weights.bin").symlink_to(secret)
    assert "'weights.bin' is a symbolic link: put the file itself beside the .onnx" in refused(path)


def test_a_symbolic_link_to_a_folder(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.bin").write_bytes(bytes(1000))
    (path.parent / "weights").symlink_to(tmp_path / "elsewhere")
    relocated(path, location="weights/secret.bin")
    assert "'weights' is a symbolic link" in refused(path)


def test_a_hard_link(path: Path, tmp_path: Path) -> None:
    os.link(path.parent / "weights.bin", tmp_path / "another.bin")
    assert "in 'weights.bin', which 2 hard links lead to, so that it may be a file of another folder" in refused(path)


def test_a_folder_and_a_pipe_are_no_weights(path: Path) -> None:
    weights = path.parent / "weights.bin"
    weights.unlink()
    weights.mkdir()
    assert "in 'weights.bin', which is no plain file" in refused(path)
    weights.rmdir()
    os.mkfifo(weights)
    assert "in 'weights.bin', which is no plain file" in refused(path)


def test_weights_that_are_not_there(path: Path) -> None:
    (path.parent / "weights.bin").unlink()
    assert "in 'weights.bin', which cannot be opened (No such file or directory)" in refused(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "1000"}, f"end at byte {1000 + BYTES:,} of 'weights.bin', which has"),
        ({"offset": str(1 << 62)}, "end at byte 4,611,686,018,427,387,952 of 'weights.bin'"),
        ({"offset": "-4"}, "have the offset '-4', expected a whole number"),
        ({"length": "9" * 400}, "have the length '999"),
        ({"length": "0x10"}, "have the length '0x10', expected a whole number"),
        ({"length": "44"}, "have 44 bytes in 'weights.bin', and their shape takes 48"),
    ],
)
def test_positions_that_do_not_fit(path: Path, entries: dict[str, str], message: str) -> None:
    relocated(path, **entries)
    assert message in refused(path)


def test_a_file_that_was_cut_short(path: Path) -> None:
    with (path.parent / "weights.bin").open("r+b") as stream:
        stream.truncate(20)
    assert "it was cut short or belongs to another model; copy both files again" in refused(path)


def test_nothing_is_read_before_everything_was_checked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = onnx.load(str(path), load_external_data=False)
    last = opened.graph.initializer[-1]
    next(entry for entry in last.external_data if entry.key == "location").value = "../secret.bin"
    monkeypatch.setattr(outside, "_read", lambda *_: pytest.fail("read before the check"))
    with pytest.raises(ConversionError, match="leaves the model's folder"):
        bring_in(opened, path)


def test_weights_inside_an_attribute_are_looked_at_too(path: Path) -> None:
    opened = onnx.load(str(path), load_external_data=False)
    hidden = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="/etc/passwd")
    opened.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=hidden))
    path.write_bytes(opened.SerializeToString())
    assert "the weights of 'hidden' are in '/etc/passwd', which leaves the model's folder" in refused(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": 99}, "tensor 'fc.weight' has the type 99 and the shape (3, 4), which no weights have"),
        ({"dims": [-3, 4]}, "the shape (-3, 4), which no weights have"),
        ({"dims": [3, 4000]}, "tensor 'fc.weight' has 48 bytes, and its shape (3, 4000) takes 48,000"),
        ({"dims": [1 << 40, 1 << 40]}, "has 48 bytes, and its shape"),
    ],
)
def test_tensors_that_contradict_themselves(tmp_path: Path, change: dict[str, object], message: str) -> None:
    changed = model()
    tensor = changed.graph.initializer[0]
    for name, value in change.items():
        if name == "dims":
            tensor.dims[:] = value
        else:
            setattr(tensor, name, value)
    (tmp_path / "x.onnx").write_bytes(changed.SerializeToString())
    assert message in refused(tmp_path / "x.onnx")
