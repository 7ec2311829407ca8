"""Run by `edgekit.workers`: a file is opened here first, since a damaged one can crash or fill its process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit_onnx.reading import read_model

BASE_BYTES = 2 << 30  # what the packages themselves need, with room
BYTES_PER_BYTE = 8  # of memory for each byte of the file: the graph, its copies in onnx and in ONNX Runtime


def open_file(request: dict[str, Any]) -> dict[str, object]:
    """`path`; replies nothing when onnx opens it and infers its shapes."""
    path = Path(request["path"])
    with limited(path, path.stat().st_size):
        read_model(path, shapes=True, weights=False)
    return {}


@contextmanager
def limited(path: Path, size: int) -> Iterator[None]:
    """Limit the memory of this process to what a file of so many bytes may need. Raises ConversionError beyond it."""
    limit = BASE_BYTES + BYTES_PER_BYTE * size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        yield
    except MemoryError as problem:
        raise ConversionError(
            f"{path}: opening it needs more than the {limit:,} bytes of memory that a file of {size:,} gets"
        ) from problem


if __name__ == "__main__":
    workers.serve(open_file)
