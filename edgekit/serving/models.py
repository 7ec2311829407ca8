"""Opened bundles: of each its worker sessions, and how many requests may be under way."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError, DataError, EdgekitError, did_you_mean
from edgekit.manifest import Manifest
from edgekit.runtime import Session, open_session
from edgekit.trust import check_signature
from edgekit.versions import version_key

T = TypeVar("T")


class OverloadedError(EdgekitError):
    """As many requests are under way as may be; the client may try again."""


class UnknownModelError(DataError):
    """No model, or no version of it, has that name."""


@dataclass(frozen=True)
class Capacity:
    """How much is done at once; each worker is a session of its own, with its own copy of the model."""

    workers: int = 1
    threads: int = 1  # of each worker's engine
    queue: int = 16  # requests that wait for a worker; further ones are refused

    def __post_init__(self) -> None:
        for what, least in (("workers", 1), ("threads", 1), ("queue", 0)):
            if getattr(self, what) < least:
                raise ConfigError(f"{what} is {getattr(self, what)}, expected {least} or more")


class ServedModel:
    """One bundle, served. All but the work itself happens on one thread, that of the event loop."""

    def __init__(self, manifest: Manifest, sessions: Sequence[Session], waiting: int) -> None:
        """The model owns the sessions; `waiting` requests may wait for one."""
        self.manifest = manifest
        self.choice = sessions[0].choice
        self.inputs, self.outputs = sessions[0].inputs, sessions[0].outputs
        self.format = next(item.format for item in manifest.variants if item.id == self.choice.variant)
        self.in_flight = 0
        self._sessions = tuple(sessions)
        self._most = len(sessions) + waiting
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        for session in sessions:
            self._free.put(session)
        self._threads = ThreadPoolExecutor(len(sessions), thread_name_prefix=f"edgekit-{manifest.name}")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place for one request, from before its body is read. Raises OverloadedError when there is none."""
        if self.in_flight >= self._most:
            raise OverloadedError(f"{self.in_flight} requests are under way, as many as may be: try again later")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def work(self, call: Callable[[Session], T]) -> T:
        """Run `call` on a free session, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_session, call)

    def close(self) -> None:
        """Wait for what is running, then close the sessions."""
        self._threads.shutdown()
        for session in self._sessions:
            session.close()

    def _with_session(self, call: Callable[[Session], T]) -> T:
        session = self._free.get_nowait()  # there are as many sessions as threads
        try:
            return call(session)
        finally:
            self._free.put(session)


class Models:
    """Every served model by name and version."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Raises ConfigError when two have one name and version."""
        self.all = tuple(models)
        self._found: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            versions = self._found.setdefault(model.manifest.name, {})
            if model.manifest.version in versions:
                raise ConfigError(f"{model.manifest.name} {model.manifest.version} is given twice: leave one out")
            versions[model.manifest.version] = model

    def versions(self, name: str) -> tuple[str, ...]:
        """Of a model, the newest first. Raises UnknownModelError."""
        if name not in self._found:
            raise UnknownModelError(f"no model '{name}'{did_you_mean(name, self._found)}")
        return tuple(sorted(self._found[name], key=lambda version: (version_key(version), version), reverse=True))

    def find(self, name: str, version: str | None) -> ServedModel:
        """The newest version, or the one that is named. Raises UnknownModelError."""
        known = self.versions(name)
        if version is not None and version not in known:
            raise UnknownModelError(f"no version '{version}' of model '{name}'{did_you_mean(version, known)}")
        return self._found[name][known[0] if version is None else version]


@contextmanager
def opened_models(
    bundles: Sequence[Path],
    capacity: Capacity,
    *,
    variant: str | None = None,
    require_signature: bool = False,
    trust: Path | None = None,
) -> Iterator[Models]:
    """Open every bundle; everything is closed afterwards. Raises BundleError, EngineError, ConfigError."""
    with ExitStack() as stack:
        models = []
        for path in bundles:
            with Bundle.open(path) as bundle:
                check_signature(bundle, require=require_signature, trust=trust)
                sessions = [
                    stack.enter_context(open_session(bundle, variant=variant, threads=capacity.threads))
                    for _ in range(capacity.workers)
                ]
                _check_stateless(sessions[0], path)
                models.append(ServedModel(bundle.manifest, sessions, capacity.queue))
                stack.callback(models[-1].close)
        yield Models(models)


def _check_stateless(session: Session, path: Path) -> None:
    """Raise ConfigError for a model whose answers to one client would depend on the requests of others."""
    if session.stateful:
        raise ConfigError(
            f"{path.name}: '{session.choice.variant}' keeps state from call to call, and requests come from several "
            "clients: run it with edgekit.open_bundle, a session or a stream for each"
        )
