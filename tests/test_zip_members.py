"""Entries of a zip, read from anywhere."""

from __future__ import annotations

import io
import os
import zipfile

import pytest

from edgekit.zip_members import open_member

CONTENT = os.urandom(1 << 20)


class Counting(io.BytesIO):
    """Says how many bytes were read of it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.read_bytes += len(content)
        return content


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_read_from_anywhere(compression: int) -> None:
    stream = archive_of(compression)
    with zipfile.ZipFile(stream) as archive, open_member(archive, "weights", stream) as member:
        assert member.read(10) == CONTENT[:10]
        assert member.seek(-5, os.SEEK_END) == len(CONTENT) - 5
        assert member.read() == CONTENT[-5:]
        assert member.read() == b""
        member.seek(1000)
        assert member.seek(24, os.SEEK_CUR) == member.tell() == 1024
        assert member.read(3) == CONTENT[1024:1027]
        assert archive.read("after") == b"more"


def test_a_stored_entry_is_not_read_up_to_a_place() -> None:
    stream = archive_of(zipfile.ZIP_STORED)
    with zipfile.ZipFile(stream) as archive, open_member(archive, "weights", stream) as member:
        before = stream.read_bytes
        for place in (1 << 19, 10, 1 << 20, 1 << 18):
            member.seek(place - 8)
            assert member.read(8) == CONTENT[place - 8 : place]
        assert stream.read_bytes - before < 1 << 18  # and not several times the megabyte


def archive_of(compression: int) -> Counting:
    stream = Counting()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("before", b"x" * 77)
        archive.writestr("weights", CONTENT)
        archive.writestr("after", b"more")
    return stream
