"""The newest state of a training run on disk: one file, replaced whole after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.errors import DataError
from edgekit.files import UNREADABLE_ZIP, atomic
from edgekit.tensors import Array


def save(folder: Path, epoch: int, arrays: Mapping[str, Array]) -> None:
    """Write the state after so many epochs and remove the one before. Raises OutputError."""
    with atomic(folder / f"epoch-{epoch:04d}.npz") as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy types **arrays as its own keywords
    for old in sorted(folder.glob("epoch-*.npz"))[:-1]:
        old.unlink()


def newest(folder: Path | None) -> tuple[int, dict[str, Array]] | None:
    """(epochs done, arrays) of the newest state; None when there is none. Raises DataError on a damaged file."""
    path = max(folder.glob("epoch-*.npz"), default=None) if folder is not None and folder.exists() else None
    if path is None:
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return int(path.stem.removeprefix("epoch-")), {name: arrays[name] for name in arrays.files}
    except UNREADABLE_ZIP as problem:
        raise DataError(f"checkpoint {path} cannot be read ({problem}); remove it") from problem


def part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix/`, without it."""
    head = f"{prefix}/"
    return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}


def parted(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The same arrays with `prefix/` before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def values(variables: Sequence[Any]) -> dict[str, Array]:
    """What the variables hold, by their numbers."""
    return {str(number): np.asarray(variable) for number, variable in enumerate(variables)}


def assign(variables: Sequence[Any], arrays: Mapping[str, Array]) -> None:
    """Give the variables what `values` took from them. Raises DataError when it came from another model."""
    shapes = {str(number): tuple(variable.shape) for number, variable in enumerate(variables)}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        raise DataError("the checkpoints are of another model; remove them, or give another folder")
    for number, variable in enumerate(variables):
        variable.assign(arrays[str(number)])
