from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError, OutputError
from edgekit.manifest import Input
from edgekit.runtime.arrays import read_inputs, read_npz, sample_inputs, write_npz
from edgekit.tensors import TensorSpec

IMAGE = TensorSpec("image", (None, 2), "float32")
MASK = TensorSpec("mask", (None, 2), "bool")


@pytest.mark.parametrize("name", ["x", "file", "allow_pickle", "inputs/image"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, {name: np.arange(6, dtype=np.int16).reshape(2, 3)})
    (read,) = read_npz(path).items()
    assert read[0] == name
    np.testing.assert_array_equal(read[1], np.arange(6, dtype=np.int16).reshape(2, 3))


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"x": np.ones(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_numpy_reads_what_was_written(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": np.ones(3)})
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["x"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.npz: cannot be read: No such file"):
        read_npz(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 cut"])
def test_not_an_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.npz: not an .npz"):
        read_npz(path)


def test_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, {"x": np.ones(300)})
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError, match=r"a.npz: not an .npz"):
        read_npz(path)


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([object()], dtype=object))
    with pytest.raises(DataError, match=r"a.npz: not an .npz of plain arrays"):
        read_npz(tmp_path / "a.npz")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*a.npz"):
        write_npz(tmp_path / "file" / "a.npz", {})


def test_a_single_input_may_be_called_x_and_labels_are_left_out(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": np.zeros((1, 2)), "y": np.zeros(1)})
    assert list(read_inputs(tmp_path / "a.npz", [IMAGE])) == ["image"]
    assert list(read_inputs(tmp_path / "a.npz", [IMAGE, MASK])) == ["x"]
    assert list(read_inputs(tmp_path / "a.npz", [TensorSpec("y", (None,), "float32")])) == ["x", "y"]


def test_samples_lie_in_the_range_and_are_the_same_every_time() -> None:
    inputs = [Input("a", (None, 50), "float32", (5.0, 6.0)), Input("b", (None, None), "int64", (3.0, 3.0))]
    sample = sample_inputs(inputs)
    assert (sample["a"].shape, sample["a"].dtype) == ((1, 50), np.float32)
    assert 5.0 <= sample["a"].min() <= sample["a"].max() <= 6.0
    np.testing.assert_array_equal(sample["b"], np.full((1, 1), 3))
    np.testing.assert_array_equal(sample["a"], sample_inputs(inputs)["a"])
    assert 0.0 <= sample_inputs([Input("c", (None, 4), "float16")])["c"].min() <= 1.0
