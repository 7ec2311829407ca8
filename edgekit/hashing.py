"""sha256, without OpenSSL where that would cost more than it saves.

hashlib brings OpenSSL, which hashes several times as fast and takes some 4 MB of memory and milliseconds to load: a
device that opens a small model has no use for it. What Python itself brings is the same function.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

SMALL_BYTES = 1 << 20
_OWN = ("_sha2", "_sha256")  # Python's from 3.12 on, and before


class Digest(Protocol):
    """What hashlib.sha256() gives."""

    def update(self, content: bytes, /) -> object:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """64 lower-case hex digits."""
        ...


def new_sha256(size: int) -> Digest:
    """An empty sha256, for about `size` bytes."""
    for name in _OWN if size <= SMALL_BYTES else ():
        try:
            made: Digest = import_module(name).sha256()
        except (ImportError, AttributeError, ValueError):  # a Python built without it, or with another policy
            continue
        return made
    return import_module("hashlib").sha256()  # type: ignore[no-any-return]
