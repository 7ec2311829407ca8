"""What `edgekit run --input` names, as a model's inputs: arrays, a picture or a sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import ConfigError, DataError
from edgekit.files import UNREADABLE_ZIP
from edgekit.manifest import Input
from edgekit.preprocessing.applying import preprocess_all
from edgekit.preprocessing.reading import read_raw
from edgekit.runtime.arrays import read_inputs
from edgekit.tensors import Array

ARRAYS, ARRAY = ".npz", ".npy"


def inputs_of(path: Path, inputs: Sequence[Input], *, preprocess: bool) -> dict[str, Array]:
    """The arrays of an `.npz` or `.npy` as they are, or preprocessed; pictures and sounds always are.

    Raises DataError, ConfigError.
    """
    suffix = path.suffix.lower()
    if suffix == ARRAYS:
        arrays = read_inputs(path, [item.spec for item in inputs])
    elif suffix == ARRAY:
        arrays = {_only(path, inputs).name: _read_npy(path)}
    else:
        item = _only(path, inputs)
        if item.preprocessing is None:
            raise ConfigError(
                f"{path.name}: the bundle declares no preprocessing of '{item.name}', so --input takes an .npz of "
                f"{item.spec}: declare [preprocessing.{item.name}] in the project file and build again"
            )
        arrays, preprocess = {item.name: read_raw(path, item.preprocessing)}, True
    return preprocess_all(arrays, inputs, where=path.name) if preprocess else arrays


def _only(path: Path, inputs: Sequence[Input]) -> Input:
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise ConfigError(f"{path.name} is one array, and the model has the inputs {names}: give an .npz with each")
    return inputs[0]


def _read_npy(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except UNREADABLE_ZIP as problem:
        raise DataError(f"{path}: not an .npy of numbers ({problem}): write it with numpy.save") from problem
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: not an .npy but an archive: call it {ARRAYS}")
    return array
