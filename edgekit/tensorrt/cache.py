"""Engines that were built on this device, kept: one build for each model, recipe and machine.

An entry is `KEY.engine` and `KEY.json`, whose sha256 of the engine is checked before TensorRT sees a byte of it: an
engine holds code. Both are renamed into place, the JSON last, so that a killed build or a full disk leaves what was
there. Builds of all processes take turns, since TensorRT times kernels to choose among them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from edgekit.errors import EngineError, OutputError
from edgekit.files import atomic, remove_folder, write_text
from edgekit.strict import parse
from edgekit.tensorrt.recipe import Recipe

log = logging.getLogger(__name__)

BUILD_TIMEOUT_S = 3600.0  # small boards take many minutes
ENGINE, FACTS, TIMING = ".engine", ".json", ".timing"
BUILDING = ".building-"  # the folders that builds work in
_LOCK = "lock"


class Built(Protocol):
    """What a builder says of an engine."""

    @property
    def package(self) -> str:
        """ "tensorrt"."""
        ...

    @property
    def version(self) -> str:
        """In full."""
        ...

    @property
    def build_s(self) -> float:
        """Seconds."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        ...


class Builder(Protocol):
    """`edgekit.tensorrt.building.build_engine`."""

    def __call__(
        self,
        model: Path,
        recipe: Recipe,
        output: Path,
        *,
        timeout_s: float,
        progress: Callable[[float], object] | None = None,
        timing_cache: Path | None = None,
    ) -> Built:
        """Write `output`. Raises BuildError, OutputError."""
        ...


@dataclass(frozen=True)
class Machine:
    """What an engine belongs to; on another machine it is built anew."""

    package: str  # "tensorrt"
    version: str  # in full: "10.3.0.30"
    gpu: str  # "Orin"
    sm: str  # "SM87"
    cuda_runtime: int  # 12060 is 12.6
    driver: int
    l4t: str | None  # "36.4.3"; None where the machine is no Jetson


@dataclass(frozen=True)
class Entry:
    """What is known of a cached engine."""

    key: str
    onnx_sha256: str
    recipe: Recipe
    machine: Machine
    engine_sha256: str
    bytes: int
    built: str  # when, ISO 8601 in UTC
    build_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CachedEngine:
    """An engine whose checksum is right."""

    entry: Entry
    plan: bytes
    built_now: bool


def cache_folder() -> Path:
    """`$EDGEKIT_CACHE/engines`, else `edgekit/engines` in the user's cache folder."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    if chosen:
        return Path(chosen, "engines")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgekit", "engines")


def engine_key(onnx_sha256: str, recipe: Recipe, machine: Machine) -> str:
    """sha256 of all that an engine depends on."""
    facts = {"onnx": onnx_sha256, "recipe": dataclasses.asdict(recipe), "machine": dataclasses.asdict(machine)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class EngineCache:
    """The cached engines of one folder, which is made when the first is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, model: bytes, recipe: Recipe, machine: Machine, build: Builder, *, refused: str | None = None
    ) -> CachedEngine:
        """The engine of an ONNX file, built now unless it is there.

        One whose sha256 is `refused`, which TensorRT did not take, is built anew. Raises BuildError when the build
        fails; EngineError when the folder cannot be written to, or others may write to it.
        """
        onnx_sha256 = hashlib.sha256(model).hexdigest()
        key = engine_key(onnx_sha256, recipe, machine)
        found = self._found(key, refused)
        if found is not None:
            return found
        try:
            with self.locked():
                found = self._found(key, refused)  # another process may have built it meanwhile
                return found or self._build(key, onnx_sha256, model, recipe, machine, build)
        except (OSError, OutputError) as problem:
            raise EngineError(
                f"the engine cache {self.folder} cannot be written to ({problem}): free some space, "
                "or name another folder with EDGEKIT_CACHE"
            ) from problem

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the folder's lock, which the system frees when its holder dies.

        Raises OSError when the folder cannot be made; BlockingIOError, without `wait`, when another process holds it.
        """
        try:
            import fcntl
        except ImportError as problem:
            raise EngineError("the engine cache needs POSIX file locks, which this system lacks") from problem
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(self.folder)
        with (self.folder / _LOCK).open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                log.warning("another process builds a TensorRT engine; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def sweep(self) -> None:
        """Remove what killed builds left; the lock must be held."""
        for left in self.folder.glob(".*"):
            if left.is_dir():
                remove_folder(left)
            else:
                left.unlink()

    def _found(self, key: str, refused: str | None) -> CachedEngine | None:
        entry = self._entry(key)
        if entry is None or entry.engine_sha256 == refused:
            return None
        _check_private(self.folder)
        try:
            plan = (self.folder / f"{key}{ENGINE}").read_bytes()
        except OSError:
            return None
        if hashlib.sha256(plan).hexdigest() != entry.engine_sha256:
            log.warning("the cached TensorRT engine %s was damaged and is built again", key[:12])
            return None
        with suppress(OSError):  # of a folder that is read-only; the time of its last use is lost
            os.utime(self.folder / f"{key}{FACTS}")
        return CachedEngine(entry, plan, built_now=False)

    def _entry(self, key: str) -> Entry | None:
        facts = self.folder / f"{key}{FACTS}"
        if not facts.exists():
            return None
        try:
            entry = read_entry(facts)
        except EngineError as problem:
            log.warning("%s; the engine is built again", problem)
            return None
        return entry if entry.key == key else None

    def _build(
        self, key: str, onnx_sha256: str, model: bytes, recipe: Recipe, machine: Machine, build: Builder
    ) -> CachedEngine:
        self.sweep()
        log.warning("building a TensorRT engine for this device, once; this can take minutes")
        engine = self.folder / f"{key}{ENGINE}"
        with tempfile.TemporaryDirectory(prefix=BUILDING, dir=self.folder) as folder:
            source = Path(folder, "model.onnx")
            source.write_bytes(model)
            with atomic(engine) as temporary:
                timing = self._timing(machine) if recipe.timing_cache else None
                report = build(source, recipe, temporary, timeout_s=BUILD_TIMEOUT_S, timing_cache=timing)
                plan = temporary.read_bytes()
        entry = Entry(
            key, onnx_sha256, recipe, machine, hashlib.sha256(plan).hexdigest(), len(plan),
            datetime.now(timezone.utc).isoformat(timespec="seconds"), report.build_s, report.notes,
        )  # fmt: skip
        write_text(self.folder / f"{key}{FACTS}", json.dumps(dataclasses.asdict(entry), indent=1) + "\n")
        return CachedEngine(entry, plan, built_now=True)

    def _timing(self, machine: Machine) -> Path:
        """How fast kernels are on this machine, which its next build reads."""
        name = hashlib.sha256(json.dumps(dataclasses.asdict(machine), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}{TIMING}"


def read_entry(path: Path) -> Entry:
    """One entry's JSON. Raises EngineError when it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise EngineError(f"{path.name} in the engine cache cannot be read: {problem}") from problem
    return parse(Entry, content, where=f"{path.name} in the engine cache", error=EngineError)


def _check_private(folder: Path) -> None:
    """An engine is code: nobody else may have put it there."""
    facts = folder.stat()
    if facts.st_uid not in (0, os.geteuid()):
        raise EngineError(f"the engine cache {folder} belongs to another user: name your own with EDGEKIT_CACHE")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(f"others may write to the engine cache {folder}, and an engine is code: chmod go-w {folder}")
