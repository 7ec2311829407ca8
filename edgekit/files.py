"""Files appear whole or not at all: write beside the final name, then rename."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from edgekit.errors import OutputError
from edgekit.hashing import new_sha256

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it, whose zipfile refuses such members with a RuntimeError
    _LZMA: tuple[type[Exception], ...] = ()
else:
    _LZMA = (LZMAError,)

# What zipfile, and numpy on an .npz, raise on a file that is damaged, encrypted, or of another kind.
_UNREADABLE = (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
UNREADABLE_ZIP: tuple[type[Exception], ...] = _UNREADABLE + _LZMA

_CHUNK = 1 << 20
_locks: dict[Path, Lock] = {}  # of what `make_once` makes


@contextmanager
def atomic(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, remove it otherwise.

    The file gets `mode`, less the umask; until then its owner alone can read it. Raises OutputError when the folder
    cannot be written to or the disk is full.
    """
    import tempfile  # not at the top: a device that only reads has no use for it

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror}; choose another folder with -o") from problem
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode & ~_umask())
        temporary.replace(path)
    except OSError as problem:
        reason = problem.strerror or problem
        raise OutputError(f"cannot write {path}: {reason}; free some space or choose another folder") from problem
    finally:
        temporary.unlink(missing_ok=True)


def place_beside(data: Path, output: Path) -> Path:
    """Move `data`, which a file needs that is about to be renamed to `output`, to the same folder; its new path.

    An older `output` is removed as soon as the data is there: it would read this data as its own. Raises OutputError,
    also for a file of that name which the older `output` does not name.
    """
    final = output.with_name(data.name)
    if os.path.lexists(final) and not (output.is_file() and data.name.encode() in output.read_bytes()):
        raise OutputError(
            f"cannot write {final}: it is there and is not of {output}: move it away or choose another name with -o"
        )
    with atomic(final) as temporary:
        shutil.move(data, temporary)
        output.unlink(missing_ok=True)
    return final


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def make_once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, written by `make(temporary)` unless it is there; other threads of this process wait meanwhile."""
    with _locks.setdefault(path, Lock()):
        if not path.exists():
            with atomic(path) as temporary:
                make(temporary)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, or of a folder's files with their relative names, read in pieces."""
    digest = new_sha256(path.stat().st_size)
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        if file != path:
            digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def fresh_folder(path: Path, *, keep: bool = False) -> Path:
    """A folder at `path`; what was there is removed unless `keep`. Raises OutputError."""
    try:
        if path.exists() and not keep:
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=keep)
    except OSError as problem:
        raise OutputError(f"cannot make folder {path}: {problem.strerror}; choose another folder with -o") from problem
    return path


def remove_folder(path: Path) -> None:
    """Remove a folder of ours if it is there. Raises OutputError."""
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as problem:
        raise OutputError(f"cannot remove {path}: {problem.strerror}; remove it by hand") from problem


@contextmanager
def workspace(output: Path, *, resume: bool, worth_keeping: str) -> Iterator[Path]:
    """A hidden folder beside `output`, removed at the end.

    When the work fails or is killed, it stays if it holds a file or folder `worth_keeping`, which a run with `resume`
    finds again; a run without begins anew. Raises OutputError.
    """
    work = output.with_name(f".{output.name}.work")
    if not resume:
        remove_folder(work)
    try:
        yield fresh_folder(work, keep=resume)
    except BaseException:
        if not (work / worth_keeping).exists():
            remove_folder(work)
        raise
    remove_folder(work)


def publish(candidate: Path, final: Path) -> None:
    """Give a finished file its final name, in one step on one file system. Raises OutputError."""
    try:
        candidate.replace(final)
    except OSError as problem:
        raise OutputError(f"cannot write {final}: {problem.strerror}; choose another folder with -o") from problem


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
