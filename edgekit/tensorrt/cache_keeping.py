"""What is in the engine cache, and what goes out of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import time

from edgekit.errors import ConfigError, EngineError, OutputError
from edgekit.files import size_of
from edgekit.tensorrt.cache import ENGINE, FACTS, TIMING, EngineCache, Entry, read_entry

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Listed:
    """One engine in the cache."""

    entry: Entry
    used: str  # for the last time, ISO 8601 in UTC


@dataclass(frozen=True)
class CacheListing:
    """Everything in the cache, the engine used last first."""

    folder: str
    bytes: int  # of all files, also of those that are no engine
    engines: tuple[Listed, ...]
    damaged: tuple[str, ...]  # names of files that no engine can be read from


@dataclass(frozen=True)
class Pruned:
    """What was removed."""

    folder: str
    removed: tuple[str, ...]  # keys of engines
    damaged: tuple[str, ...]  # files that no engine could be read from
    freed_bytes: int
    kept: int  # engines
    notes: tuple[str, ...] = ()


def list_cache(folder: Path) -> CacheListing:
    """Read every entry; engines are not read through, their checksum is tested when they are used."""
    listed, damaged = _look(folder)
    return CacheListing(str(folder), size_of(folder), tuple(item for _, item in listed), tuple(damaged))


def prune(
    folder: Path, *, older_than_days: float | None = None, max_bytes: int | None = None, everything: bool = False
) -> Pruned:
    """Remove engines that were not used for so many days, then those used longest ago until `max_bytes` hold the rest.

    Damaged files and what killed builds left go too, unless a build is on. Raises ConfigError, OutputError.
    """
    for name, limit in (("older-than", older_than_days), ("max-bytes", max_bytes)):
        if limit is not None and limit < 0:
            raise ConfigError(f"{name} is {limit}, expected 0 or more")
    before = size_of(folder)
    listed, _ = _look(folder)
    going = _going(listed, older_than_days, max_bytes, everything)
    try:
        for key in going:
            for suffix in (FACTS, ENGINE):  # the facts first: without them there is no entry
                (folder / f"{key}{suffix}").unlink(missing_ok=True)
        damaged, notes = _tidy(folder, everything)
    except OSError as problem:
        raise OutputError(f"cannot remove {problem.filename}: {problem.strerror or problem}") from problem
    freed = before - size_of(folder)
    return Pruned(str(folder), tuple(going), tuple(damaged), freed, len(listed) - len(going), tuple(notes))


def _look(folder: Path) -> tuple[list[tuple[float, Listed]], list[str]]:
    """Entries with the time of their last use, the newest first; and files that are none."""
    listed: list[tuple[float, Listed]] = []
    good = set[str]()
    for path in sorted(folder.glob(f"*{FACTS}")):
        with suppress(EngineError, OSError):
            entry = read_entry(path)
            if path.name == f"{entry.key}{FACTS}" and path.with_suffix(ENGINE).stat().st_size == entry.bytes:
                used = path.stat().st_mtime
                listed.append((used, Listed(entry, _iso(used))))
                good.add(entry.key)
    files = [*folder.glob(f"*{FACTS}"), *folder.glob(f"*{ENGINE}")]
    damaged = sorted(path.name for path in files if path.stem not in good and not path.name.startswith("."))
    return sorted(listed, key=lambda item: -item[0]), damaged


def _going(
    listed: list[tuple[float, Listed]], older_than_days: float | None, max_bytes: int | None, everything: bool
) -> list[str]:
    oldest = None if older_than_days is None else time() - older_than_days * _DAY_S
    going, total = [], 0
    for used, item in listed:
        total += item.entry.bytes
        old = oldest is not None and used < oldest
        if everything or old or (max_bytes is not None and total > max_bytes):
            going.append(item.entry.key)
            total -= item.entry.bytes
    return going


def _tidy(folder: Path, everything: bool) -> tuple[list[str], list[str]]:
    """Damaged files and leftovers, which are looked for again where no build can be making them."""
    if not folder.is_dir():
        return [], []
    cache = EngineCache(folder)
    try:
        with cache.locked(wait=False):
            _, damaged = _look(folder)
            timings = [path.name for path in folder.glob(f"*{TIMING}")] if everything else []
            for name in (*damaged, *timings):
                (folder / name).unlink()
            cache.sweep()
            return damaged, []
    except BlockingIOError:
        return [], ["a build is on: what is unfinished stays"]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
