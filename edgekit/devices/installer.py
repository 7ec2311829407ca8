"""Run on a device, pushed there as one file: a model's versions side by side, one of them current.

    python3 installer.py install FOLDER VERSION KEEP (NAME FILE)…   put files into FOLDER/VERSION, and make it current
    python3 installer.py rollback FOLDER                            make the version before current

`current` and `previous` are symbolic links, replaced in one step: whenever the power goes, `current` names a version
that is whole. It prints one JSON line. The standard library alone, Python 3.10 and newer.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

CURRENT, PREVIOUS = "current", "previous"


def install(folder: str, version: str, keep: str, *files: str) -> None:
    """The files are there already, under their hashes; `keep` versions beside `current` and `previous` stay."""
    root = Path(folder)
    place, scratch = root / version, root / f".{version}.part"
    root.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        for name, file in zip(files[::2], files[1::2], strict=True):
            shutil.copyfile(file, scratch / name)
            to_disk(scratch / name)
        to_disk(scratch)
        scratch.replace(place)
        to_disk(root)
    before = named(root, CURRENT)
    if before != version:
        if before is not None:
            point(root, PREVIOUS, before)
        point(root, CURRENT, version)
    sweep(root, int(keep))
    say(root)


def rollback(folder: str) -> None:
    """Exchange `current` and `previous`."""
    root = Path(folder)
    before, now = named(root, PREVIOUS), named(root, CURRENT)
    if before is None or now is None:
        say(root, problem="there is no version before")
        return
    point(root, CURRENT, before)
    point(root, PREVIOUS, now)
    say(root)


def named(root: Path, link: str) -> str | None:
    """The version that a link names, if it is there."""
    path = root / link
    return str(path.readlink()) if path.is_symlink() and path.exists() else None


def point(root: Path, link: str, version: str) -> None:
    """Let a link name a version, in one step."""
    temporary = root / f".{link}.part"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version)
    temporary.replace(root / link)
    to_disk(root)


def versions(root: Path) -> list[str]:
    """The oldest first."""
    folders = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    return [path.name for path in sorted(folders, key=lambda path: path.stat().st_mtime)]


def sweep(root: Path, keep: int) -> None:
    """Remove the oldest versions, and what dead sessions left."""
    used = {named(root, CURRENT), named(root, PREVIOUS)}
    others = [version for version in versions(root) if version not in used]
    for version in others[: max(len(others) - keep, 0)]:
        shutil.rmtree(root / version, ignore_errors=True)
    for path in root.glob(".*.part"):
        shutil.rmtree(path, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def say(root: Path, problem: str | None = None) -> None:
    """What is there now."""
    found = {"current": named(root, CURRENT), "previous": named(root, PREVIOUS)}
    listed = versions(root) if root.exists() else []
    sys.stdout.write(json.dumps({**found, "versions": listed, "problem": problem}) + "\n")


if __name__ == "__main__":
    {each.__name__: each for each in (install, rollback)}[sys.argv[1]](*sys.argv[2:])
