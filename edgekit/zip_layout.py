"""A zip without holes: its entries follow one another from the first byte on, then the directory, then nothing.

zipfile finds what the directory names wherever it lies; bytes that nothing names would be carried along unseen.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import IO

_NAME_LENGTHS = struct.Struct("<26x2H")  # of a local header: of the name, of the extra field
_LOCAL_BYTES = 30
_END = struct.Struct("<4s6xHIIH")  # end of directory: signature, entries, size, offset, length of a comment
_END_SIGNATURE = b"PK\5\6"
_SAID_ELSEWHERE = 0xFFFFFFFF  # in the records of a zip beyond 4 GiB


def find_hole(archive: zipfile.ZipFile, stream: IO[bytes]) -> str | None:
    """Where a zip, open as `archive` on `stream`, holds bytes that it does not name; None where it does not."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset != end:
            return f"'{info.filename}' begins at byte {info.header_offset}, expected {end}"
        end = start_of(info, stream) + info.compress_size
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - _END.size, 0))
    signature, _, directory, offset, comment = _END.unpack(_read(stream, _END.size))
    if signature != _END_SIGNATURE or comment:
        return "there are bytes behind its directory"
    if _SAID_ELSEWHERE not in (directory, offset) and (offset != end or offset + directory + _END.size != size):
        return f"its directory is at byte {offset} of {size}, expected {end}"
    return None


def start_of(info: zipfile.ZipInfo, stream: IO[bytes]) -> int:
    """Where the content of an entry begins in the zip that `stream` reads. Raises BadZipFile."""
    stream.seek(info.header_offset)
    name, extra = _NAME_LENGTHS.unpack(_read(stream, _LOCAL_BYTES))
    return info.header_offset + _LOCAL_BYTES + int(name) + int(extra)


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise zipfile.BadZipFile("cut short")
    return content
