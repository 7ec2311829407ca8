"""A model's place in a Triton model repository: `NAME/config.pbtxt`, `NAME/VERSION/model.onnx` and what goes with them.

Everything is written beside the repository first and renamed into it afterwards, the version last: a server that polls
the repository takes every folder in it for a model, and must not see half of one.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConfigError, OutputError
from edgekit.files import publish

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[1-9]\d*")  # Triton ignores other folders (model_repository.md)


@dataclass(frozen=True)
class Place:
    """Where a version of a model goes."""

    folder: Path  # of the model
    version: int
    replace: bool  # that version may be there already, and shared files may change

    @property
    def version_folder(self) -> Path:
        """Of this version."""
        return self.folder / str(self.version)


def find_place(repository: Path, name: str, *, version: int | None, replace: bool) -> Place:
    """The next free version, or the one that is asked for.

    Raises ConfigError when that one is there, or the name cannot be a model's; OutputError when a file is in the way.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name '{name}' cannot be a Triton model's: give --name, of letters, digits, '_', '-' and '.'"
        )
    folder = repository / name
    for path in (repository, folder):
        if path.exists() and not path.is_dir():
            raise OutputError(f"cannot write {path}: it is a file; choose another folder with -o")
    there = {int(path.name) for path in _entries(folder) if path.is_dir() and _VERSION.fullmatch(path.name)}
    free = max(there, default=0) + 1
    if version in there and not replace:
        raise ConfigError(
            f"{folder / str(version)} is there already: leave --version-folder out for {free}, or add --replace"
        )
    return Place(folder, version or free, replace)


def check_shared(place: Place, shared: Mapping[str, bytes]) -> None:
    """Raise ConfigError when files that all versions share would change, unless `replace` allows it."""
    for name, content in shared.items():
        path = place.folder / name
        if not place.replace and path.exists() and path.read_bytes() != content:
            raise ConfigError(
                f"{path} is there and would change, for all versions of the model: add --replace, or give --name for a "
                "model of its own"
            )


@contextmanager
def staging(place: Place) -> Iterator[Path]:
    """A folder on the repository's file system that is gone afterwards. Raises OutputError, also for what is written.

    The repository's own folder is not touched.
    """
    repository = place.folder.parent.resolve()
    try:
        repository.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{repository.name}.", dir=repository.parent) as folder:
            yield Path(folder)
    except OSError as problem:
        reason = problem.strerror or problem
        raise OutputError(
            f"cannot write {repository}: {reason}; free some space or choose another folder with -o"
        ) from problem


def publish_model(staged: Path, place: Place) -> tuple[Path, ...]:
    """Rename the staged model into its place; returns its files there. Raises OutputError.

    A new model appears whole. In one that is there, shared files come first and the version last; other versions and
    other files stay.
    """
    files = tuple(place.folder / path.relative_to(staged) for path in sorted(staged.rglob("*")) if path.is_file())
    if not place.folder.exists():
        place.folder.parent.mkdir(exist_ok=True)
        publish(staged, place.folder)
        return files
    version = staged / str(place.version)
    for path in sorted(staged.rglob("*")):
        if path.is_file() and version not in path.parents:
            final = place.folder / path.relative_to(staged)
            final.parent.mkdir(exist_ok=True)
            publish(path, final)
    _publish_version(version, place, aside=staged / "replaced")
    return files


def _publish_version(staged: Path, place: Place, *, aside: Path) -> None:
    """Put a version where another may be, which comes back when that fails.

    Without `replace`, one that another process has put there meanwhile is not touched: the rename fails.
    """
    final = place.version_folder
    replaced = place.replace and final.exists()
    if replaced:
        publish(final, aside)
    try:
        publish(staged, final)
    except OutputError:
        if replaced:
            publish(aside, final)
        raise


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.exists() else []
    except OSError as problem:
        raise OutputError(f"cannot read {folder}: {problem.strerror}; choose another folder with -o") from problem
