"""Outputs that cannot be written, for real and also as root."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def no_space_beyond(size: int) -> Iterator[None]:
    """Writing past `size` bytes in one file fails with an OSError, here and in child processes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def below_a_file(folder: Path) -> Path:
    """A folder that nobody can make, whatever their permissions: its parent is a regular file."""
    parent = folder / "a-file"
    parent.write_text("not a folder")
    return parent / "out"
