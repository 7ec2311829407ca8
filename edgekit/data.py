"""Data from a file, a function, a dict or a tf.data.Dataset becomes checked arrays under the model's input names."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any  # Any: a tf.data.Dataset, whose package has no types

import numpy as np

from edgekit.errors import DataError, did_you_mean
from edgekit.files import UNREADABLE_ZIP
from edgekit.references import import_function
from edgekit.tensors import Array, TensorSpec, check_finite, format_shape

LABELS_KEY = "y"
SINGLE_INPUT_KEY = "x"
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY

_LabelCheck = Callable[[Array, str], Array]

# A path to an .npz, `module:function`, a dict of arrays, or a tf.data.Dataset.
DataSource = str | Path | Mapping[str, Array] | Any


@dataclass(frozen=True)
class Data:
    """Samples for a model: one array per input, shape (n, ...), and integer labels, shape (n,), where there are any.

    A sample of a model with state is a sequence: arrays have shape (n, steps, ...), labels (n,) or (n, steps).
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    where: str  # what to call it in messages
    steps: int | None = None  # of each sequence; None where a sample is one call

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def first(self, count: int) -> Data:
        """The first `count` samples."""
        return self.take(np.arange(min(count, len(self))))

    def take(self, rows: Array) -> Data:
        """The samples of these row numbers."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, inputs={name: array[rows] for name, array in self.inputs.items()}, labels=labels)

    def spread(self, count: int) -> Data:
        """`count` samples spread evenly over the data, so that an ordered file still gives every class."""
        return self.take(self.spread_rows(count))

    def spread_rows(self, count: int) -> Array:
        """Their row numbers."""
        return np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)

    def need_labels(self) -> Array:
        """The labels. Raises DataError when there are none."""
        if self.labels is None:
            raise DataError(f"{self.where}: no labels; add an array '{LABELS_KEY}' of class numbers")
        return self.labels

    def sha256(self) -> str:
        """Hex sha256 over names, shapes, dtypes and values."""
        digest = hashlib.sha256()
        labels = {} if self.labels is None else {LABELS_KEY: self.labels}
        for name, array in sorted({**self.inputs, **labels}.items()):
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    *,
    where: str,
    classes: int | None = None,
    any_labels: bool = False,
    in_steps: bool = False,
) -> Data:
    """Read and check data for a model with these inputs.

    `where` names the data in messages (a path adds itself); `classes` is the number of classes that labels must stay
    within; `any_labels` takes any finite numbers, because the loss or the metric is the user's. With `in_steps`, for a
    model with state, samples are sequences. Raises DataError for a missing file or input name, a wrong shape or dtype,
    NaN or infinity, rows that do not match, or a label out of range.
    """
    check: _LabelCheck = _any_labels if any_labels else partial(_class_labels, classes=classes, in_steps=in_steps)
    if isinstance(source, Data):
        arrays, labels, label = dict(source.inputs), source.labels, where
    else:
        arrays = _arrays(source, inputs, where)
        labels = arrays.pop(LABELS_KEY, None)
        label = f"{where} ({source})" if isinstance(source, str | Path) else where
    if not in_steps:
        return _checked(arrays, labels, inputs, label, check)
    data = _checked(arrays, labels, [spec.in_steps for spec in inputs], f"{label}: samples, then their steps", check)
    return replace(data, steps=_steps(data))


def _arrays(source: DataSource, inputs: Sequence[TensorSpec], where: str) -> dict[str, Array]:
    if isinstance(source, Mapping):
        return {name: np.asarray(array) for name, array in source.items()}
    if isinstance(source, str) and ":" in source and not Path(source).exists():
        return _arrays(import_function(source, what=where, error=DataError)(), inputs, where)
    if isinstance(source, str | Path):
        return _read_npz(Path(source), where)
    if hasattr(source, "as_numpy_iterator"):
        if int(source.cardinality()) == _INFINITE:
            raise DataError(f"{where}: the dataset never ends; leave out .repeat(), or add .take(batches)")
        return _from_batches(source.as_numpy_iterator(), inputs, where)
    raise DataError(
        f"{where}: cannot read data from {type(source).__name__}; "
        "give an .npz path, module:function, a dict of arrays or a tf.data.Dataset"
    )


def _read_npz(path: Path, where: str) -> dict[str, Array]:
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):  # numpy takes it for a pickle, and says how to load those
                raise zipfile.BadZipFile("it is no whole zip archive")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except FileNotFoundError as problem:
        raise DataError(f"{where}: no file {path}") from problem
    except UNREADABLE_ZIP as problem:
        raise DataError(f"{where}: {path} is not an .npz of plain arrays ({problem}); use numpy.savez") from problem


def _from_batches(batches: Iterable[Any], inputs: Sequence[TensorSpec], where: str) -> dict[str, Array]:
    """Batches of `x`, `(x, y)` or dicts of inputs, as tf.data.Dataset gives them."""
    columns: dict[str, list[Array]] = {}
    for batch in batches:
        features, labels = batch if isinstance(batch, tuple) else (batch, None)
        named = features if isinstance(features, Mapping) else {inputs[0].name: features}
        for name, array in {**named, **({} if labels is None else {LABELS_KEY: labels})}.items():
            columns.setdefault(name, []).append(np.asarray(array))
    if not columns:
        raise DataError(f"{where}: the dataset is empty")
    if columns[next(iter(columns))][0].ndim < len(inputs[0].shape):
        raise DataError(f"{where}: the dataset gives single samples; call .batch(…) on it first")
    return {name: np.concatenate(arrays) for name, arrays in columns.items()}


def _checked(
    arrays: dict[str, Array], labels: Array | None, inputs: Sequence[TensorSpec], where: str, check: _LabelCheck
) -> Data:
    if len(inputs) == 1 and SINGLE_INPUT_KEY in arrays and inputs[0].name not in arrays:
        arrays = {inputs[0].name: arrays[SINGLE_INPUT_KEY]}
    checked = {spec.name: _checked_input(arrays, spec, where) for spec in inputs}
    rows = len(checked[inputs[0].name])
    columns = dict(checked) if labels is None else {**checked, LABELS_KEY: labels}
    for name, array in columns.items():
        if array.ndim == 0 or len(array) != rows or not rows:
            got = len(array) if array.ndim else "no"
            raise DataError(f"{where}: '{name}' has {got} samples, expected {rows or 'at least 1'}")
    if labels is not None:
        labels = check(labels, where)
    return Data(checked, labels, where)


def _checked_input(arrays: Mapping[str, Array], spec: TensorSpec, where: str) -> Array:
    if spec.name not in arrays:
        raise DataError(f"{where}: no array named '{spec.name}' for the model's input{did_you_mean(spec.name, arrays)}")
    array = arrays[spec.name]
    if array.dtype == np.float64 and spec.dtype == "float32":
        array = array.astype(np.float32)  # numpy's default type; nothing of use is lost
    spec.check(array, where=where)
    check_finite(spec.name, array, where=where)
    return array


def _steps(data: Data) -> int:
    """The number of steps, the same in all inputs, and in labels that have one for each."""
    found: dict[str, int] = {name: array.shape[1] for name, array in data.inputs.items()}
    if data.labels is not None and data.labels.ndim > 1:
        found[LABELS_KEY] = data.labels.shape[1]
    (first, steps), *others = found.items()
    for name, count in others:
        if count != steps:
            raise DataError(f"{data.where}: '{name}' has {count} steps, '{first}' has {steps}: give as many of each")
    if not steps:
        raise DataError(f"{data.where}: '{first}' has no steps, expected at least 1")
    return steps


def _any_labels(labels: Array, where: str) -> Array:
    if not np.issubdtype(labels.dtype, np.number) or not np.isfinite(labels).all():
        raise DataError(f"{where}: '{LABELS_KEY}' holds {labels.dtype} values, expected finite numbers")
    return labels


def _class_labels(labels: Array, where: str, *, classes: int | None, in_steps: bool) -> Array:
    if labels.ndim not in ((1, 2) if in_steps else (1,)) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: '{LABELS_KEY}' has shape {format_shape(labels.shape)} {labels.dtype}, expected (samples,)"
            f"{' or (samples, steps)' if in_steps else ''} of whole class numbers; "
            f"for one-hot labels use .argmax(axis={-1 if in_steps else 1})"
        )
    wrong = (labels < 0) | (labels >= classes) if classes is not None else labels < 0
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        allowed = f"0 to {classes - 1}" if classes is not None else "0 or more"
        raise DataError(f"{where}: label {labels[place]} in sample {place[0]}, expected {allowed}")
    return labels.astype(np.int64)
