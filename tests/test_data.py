from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import Data, load_data
from edgekit.errors import DataError
from edgekit.tensors import TensorSpec

IMAGE = (TensorSpec("image", (None, 4), "float32"),)
TWO = (TensorSpec("left", (None, 2), "float32"), TensorSpec("right", (None, 3), "int32"))
PIXELS = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Batches:
    """What load_data needs of a tf.data.Dataset."""

    def __init__(self, *batches: object) -> None:
        self.batches = batches

    def as_numpy_iterator(self) -> Iterator[object]:
        return iter(self.batches)

    def cardinality(self) -> int:
        return len(self.batches)


def arrays_for_a_reference() -> dict[str, np.ndarray]:
    return {"image": PIXELS, "y": LABELS}


def load(source: Any, inputs: tuple[TensorSpec, ...] = IMAGE) -> Data:
    return load_data(source, inputs, where="evaluation data", classes=3)


def refused(source: Any, inputs: tuple[TensorSpec, ...] = IMAGE) -> str:
    with pytest.raises(DataError) as caught:
        load(source, inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_npz_gives_inputs_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", image=PIXELS, y=LABELS.astype(np.uint8))
    data = load(tmp_path / "test.npz")
    np.testing.assert_array_equal(data.inputs["image"], PIXELS)
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert len(data) == 6


def test_a_single_input_may_be_called_x() -> None:
    np.testing.assert_array_equal(load({"x": PIXELS}).inputs["image"], PIXELS)


def test_numpys_default_float64_is_taken_as_float32() -> None:
    assert load({"image": PIXELS.astype(np.float64)}).inputs["image"].dtype == np.float32


def test_arrays_that_the_model_does_not_take_are_left_out() -> None:
    assert set(load({"image": PIXELS, "path": np.arange(6)}).inputs) == {"image"}


def test_a_function_reference_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_own_data.py").write_text(
        "import numpy as np\ndef get():\n    return {'image': np.zeros((2, 4), np.float32)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load("my_own_data:get")) == 2


def test_batches_are_joined() -> None:
    data = load(Batches((PIXELS[:4], LABELS[:4]), (PIXELS[4:], LABELS[4:])))
    np.testing.assert_array_equal(data.inputs["image"], PIXELS)
    np.testing.assert_array_equal(data.labels, LABELS)


def test_batches_of_dicts_are_joined_by_name() -> None:
    left, right = np.zeros((3, 2), np.float32), np.ones((3, 3), np.int32)
    data = load(Batches({"left": left, "right": right}, {"left": left, "right": right}), TWO)
    assert data.labels is None
    assert {name: array.shape for name, array in data.inputs.items()} == {"left": (6, 2), "right": (6, 3)}


def test_spread_reaches_from_the_first_row_to_the_last() -> None:
    data = Data({"image": np.arange(10)}, np.arange(10), "x")
    assert data.spread(4).need_labels().tolist() == [0, 3, 6, 9]
    assert len(data.spread(50)) == 10
    assert data.first(2).need_labels().tolist() == [0, 1]


def test_the_sha256_changes_with_every_part() -> None:
    data = load({"image": PIXELS, "y": LABELS})
    moved = PIXELS.copy()
    moved[5, 3] += 1e-6
    others = [
        load({"image": moved, "y": LABELS}),
        load({"image": PIXELS, "y": LABELS[::-1]}),
        load({"image": PIXELS}),
        Data({"picture": PIXELS}, LABELS, ""),
    ]
    assert load({"y": LABELS, "image": PIXELS}).sha256() == data.sha256()
    assert len({data.sha256(), *(other.sha256() for other in others)}) == 5


def test_data_without_the_inputs_name() -> None:
    message = refused({"imgae": PIXELS})
    assert message == (
        "evaluation data: no array named 'image' for the model's input; did you mean 'imgae'?"
    )  # fmt: skip


def test_x_does_not_stand_for_one_of_two_inputs() -> None:
    assert "no array named 'left'" in refused({"x": PIXELS}, TWO)


def test_a_wrong_shape() -> None:
    message = refused({"image": PIXELS[:, :3]})
    assert message == "evaluation data: 'image' has shape (6, 3) float32, expected (batch, 4) float32"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, bool, "<U3", object])
def test_a_wrong_dtype(dtype: Any) -> None:
    assert f"{np.dtype(dtype)}, expected (batch, 4) float32" in refused({"image": PIXELS.astype(dtype)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_with_their_sample(value: float) -> None:
    broken = PIXELS.copy()
    broken[4, 1] = value
    assert "'image' holds NaN or infinity, first in sample 4" in refused({"image": broken})


def test_rows_that_differ_between_inputs_and_labels() -> None:
    assert "'y' has 5 samples, expected 6" in refused({"image": PIXELS, "y": LABELS[:5]})


def test_rows_that_differ_between_inputs() -> None:
    left, right = np.zeros((3, 2), np.float32), np.ones((4, 3), np.int32)
    assert "'right' has 4 samples, expected 3" in refused({"left": left, "right": right}, TWO)


def test_empty_data() -> None:
    assert "'image' has 0 samples, expected at least 1" in refused({"image": PIXELS[:0]})
    assert "the dataset is empty" in refused(Batches())


@pytest.mark.parametrize(("label", "row"), [(3, 2), (-1, 2)])
def test_a_label_outside_the_classes(label: int, row: int) -> None:
    labels = LABELS.copy()
    labels[row] = label
    assert f"label {label} in sample {row}, expected 0 to 2" in refused({"image": PIXELS, "y": labels})


def test_float_labels() -> None:
    message = refused({"image": PIXELS, "y": LABELS.astype(np.float32)})
    assert "'y' has shape (6,) float32, expected (samples,) of whole class numbers" in message


def test_one_hot_labels() -> None:
    assert "'y' has shape (6, 3) int64" in refused({"image": PIXELS, "y": np.eye(3, dtype=int)[LABELS]})


def test_labels_that_are_missing_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"no labels; add an array 'y' of class numbers"):
        load({"image": PIXELS}).need_labels()


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.npz") == f"evaluation data: no file {tmp_path / 'none.npz'}"


def _text(path: Path) -> None:
    path.write_text("image,label\n0.5,1\n")


def _truncated(path: Path) -> None:
    np.savez(path, image=PIXELS)
    path.write_bytes(path.read_bytes()[:-40])


def _pickled(path: Path) -> None:
    np.savez(path, image=np.array([{"a": 1}], dtype=object))


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"image": PIXELS}))


def _npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, PIXELS)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("write", [_text, _truncated, _pickled, _pickle, _npy, _empty, Path.mkdir])
def test_a_file_that_is_not_an_npz_of_plain_arrays(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "test.npz")
    message = refused(tmp_path / "test.npz")
    assert f"{tmp_path / 'test.npz'} is not an .npz of plain arrays" in message
    assert "use numpy.savez" in message
    assert "unsafely" not in message


def test_any_changed_byte_of_an_npz_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez_compressed(path, image=PIXELS, y=LABELS)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            data = load(path)
        except DataError:
            continue
        np.testing.assert_array_equal(data.inputs["image"], PIXELS)


@pytest.mark.parametrize("reference", ["no_such_module:get", "json:no_such_function"])
def test_a_function_that_cannot_be_imported(reference: str) -> None:
    assert f"cannot import '{reference}'" in refused(reference)


def test_a_dataset_that_was_not_batched() -> None:
    assert "call .batch(…) on it first" in refused(Batches((PIXELS[0], LABELS[0])))


@pytest.mark.parametrize("source", [5, None, [PIXELS]])
def test_what_is_no_data_at_all(source: object) -> None:
    message = refused(source)
    assert f"cannot read data from {type(source).__name__}" in message
    assert "a tf.data.Dataset" in message


def test_checked_data_is_checked_again_for_another_model() -> None:
    data = load({"image": PIXELS})
    other = (TensorSpec("image", (None, 5), "float32"),)
    assert "expected (batch, 5) float32" in refused(data, other)


def test_a_mapping_of_lists_is_made_arrays() -> None:
    source: Mapping[str, Any] = {"image": [[0.0, 0.5, 1.0, 0.0]], "y": [2]}
    assert load(source).need_labels().tolist() == [2]
