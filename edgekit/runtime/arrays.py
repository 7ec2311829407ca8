"""Arrays from and to `.npz` files, and made-up inputs to measure with."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import BundleError, DataError, EdgekitError
from edgekit.files import UNREADABLE_ZIP, atomic
from edgekit.manifest import Input
from edgekit.tensors import Array, TensorSpec

ANY_INPUT = "x"  # what a single input may be called
LABELS = "y"


def read_npz(path: Path) -> dict[str, Array]:
    """Every array of an `.npz`. Raises DataError when it cannot be read or holds Python objects."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    return parse_npz(content, where=str(path), error=DataError)


def parse_npz(content: bytes, *, where: str, error: type[EdgekitError] = BundleError) -> dict[str, Array]:
    """Arrays by name. Raises `error` when `content` is not an `.npz` of plain arrays."""
    if not content.startswith(b"PK"):
        raise error(f"{where}: not an .npz file; write one with numpy.savez")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except UNREADABLE_ZIP as problem:
        raise error(f"{where}: not an .npz of plain arrays ({problem}); write it with numpy.savez") from problem


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name, whole or not at all; equal arrays give equal bytes. Raises OutputError."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():  # numpy.savez cannot take an array called "file"
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read_inputs(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """A model's inputs from an `.npz`: under their names, or `x` for a single input; labels `y` are left out.

    Names, shapes and dtypes are checked by the session. Raises DataError.
    """
    arrays = read_npz(path)
    names = [spec.name for spec in specs]
    if LABELS not in names:
        arrays.pop(LABELS, None)
    if len(names) == 1 and names[0] not in arrays and ANY_INPUT in arrays:
        arrays[names[0]] = arrays.pop(ANY_INPUT)
    return arrays


def sample_inputs(inputs: Sequence[Input]) -> dict[str, Array]:
    """One made-up sample: uniform in each input's range ([0, 1] when unknown), the same every time."""
    generator = np.random.default_rng(0)
    return {item.name: _sample(item, generator) for item in inputs}


def _sample(item: Input, generator: np.random.Generator) -> Array:
    least, most = item.range or (0.0, 1.0)
    shape = tuple(1 if size is None else size for size in item.shape)
    dtype = np.dtype(item.dtype)
    values = generator.uniform(least, most, shape)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)
