"""An entry of a zip that is stored as it is, as a file of its own to read from anywhere."""

from __future__ import annotations

import io
import os
import zipfile
from typing import IO, TYPE_CHECKING

from edgekit.zip_layout import start_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def open_member(archive: zipfile.ZipFile, name: str, stream: IO[bytes]) -> IO[bytes]:
    """The entry `name` of a zip that is open as `archive` on `stream`; both have to outlive what is returned.

    zipfile goes to a place by reading all that lies before it, so that a walk through a file reads it many times over:
    that is left to entries that are compressed.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        return archive.open(info)
    return io.BufferedReader(_Stored(stream, start_of(info, stream), info.file_size))


class _Stored(io.RawIOBase):
    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._stream.seek(self._start + self._at)
        content = self._stream.read(max(min(len(view), self._size - self._at), 0))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
