"""Run by `edgekit.workers`: the header of a GGUF file is read here, since a damaged one can fill its process."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and the package's objects

import numpy as np

from edgekit import workers
from edgekit.errors import ModelError

_INSTALL = 'pip install "edgekit[gguf]"'
_MOST_BYTES = 4 << 30  # of memory; the vocabulary of a large model takes one of them


def read_header(request: dict[str, Any]) -> dict[str, object]:
    """`path`; replies with the single values of its metadata, and where each tensor lies. Raises ModelError."""
    path = Path(request["path"])
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    reader = _open(path)
    if reader.byte_order != "I":
        raise ModelError(f"{path}: of the other byte order; convert it with the package's gguf-convert-endian")
    return {
        "fields": {name: field.contents() for name, field in reader.fields.items() if _is_single(field)},
        "tensors": [
            {
                "name": tensor.name,
                "kind": tensor.tensor_type.name,
                "shape": [int(size) for size in reversed(tensor.shape)],
                "offset": int(tensor.data_offset),
                "bytes": int(tensor.n_bytes),
            }
            for tensor in reader.tensors
        ],
    }


def _open(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError as problem:
        raise ModelError(f"{path}: reading it needs gguf: {_INSTALL}") from problem

    class Bounded(GGUFReader):
        """The package's reader takes whatever a slice gives, and counts on through a list that the file only claims."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise ValueError(f"it has {len(self.data):,} bytes, and tells of {end:,}")
            return super()._get(offset, dtype, count, override_order)

    try:
        return Bounded(path)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as problem:
        raise ModelError(f"{path}: not a GGUF file, or cut short ({problem}); copy it again") from problem


def _is_single(field: Any) -> bool:
    return len(field.types) == 1 and field.types[0].name != "ARRAY"


if __name__ == "__main__":
    workers.serve(read_header)
