"""The teacher's outputs for all samples, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO  # Any: a keras model

import numpy as np

from edgekit.compression.training import Training
from edgekit.errors import DataError, OutputError
from edgekit.files import UNREADABLE_ZIP, atomic
from edgekit.loading import LoadedModel, import_keras
from edgekit.tensors import Array

_BATCH = 256


def teacher_outputs(
    teacher: LoadedModel, view: Any, names: Sequence[str], training: Training, folder: Path
) -> list[Array]:
    """Each output of `view`, a model on the teacher's inputs, for every sample: memory-mapped float32 arrays.

    They lie in `folder` as .npy files, keyed by the teacher's and the data's sha256 and the output's name; a file that
    is there is not computed again. Raises OutputError when the disk is full.
    """
    key = f"{teacher.sha256()} {training.need_data().sha256()}"
    paths = [folder / f"teacher-{hashlib.sha256(f'{key} {name}'.encode()).hexdigest()[:24]}.npy" for name in names]
    if not all(path.exists() for path in paths):
        _predict(teacher, view, training, paths)
    try:
        return [np.load(path, mmap_mode="r") for path in paths]
    except UNREADABLE_ZIP as problem:
        raise DataError(f"the teacher's outputs in {folder} cannot be read ({problem}); remove them") from problem


def _predict(teacher: LoadedModel, view: Any, training: Training, paths: Sequence[Path]) -> None:
    """Write every output batch by batch: no more than a batch is ever in memory."""
    data = training.need_data()
    batches = -(-len(data) // _BATCH)
    with ExitStack() as stack:
        temporaries = [stack.enter_context(atomic(path)) for path in paths]
        files: list[BinaryIO] = [stack.enter_context(path.open("wb")) for path in temporaries]
        advance = stack.enter_context(training.progress.task("ask the teacher", batches))
        for batch in range(batches):
            rows = slice(batch * _BATCH, (batch + 1) * _BATCH)
            features = teacher.pack({name: column[rows] for name, column in data.inputs.items()})
            outputs = import_keras().tree.flatten(view.predict_on_batch(features))
            for path, file, output in zip(paths, files, outputs, strict=True):
                if batch == 0:
                    _begin(file, (len(data), *output.shape[1:]))
                _append(path, file, output)
            advance(1, "")
        for file in files:
            file.flush()


def _begin(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _append(path: Path, file: BinaryIO, output: Array) -> None:
    try:
        file.write(np.ascontiguousarray(output, "<f4").data)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror}; free some space") from problem
