"""Latency on the target device: the candidates of a batch and the plain file in turns, in one process there."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgekit.bundle import Bundle, write_bundle
from edgekit.devices import DeployedBundle, deploy, opened_device
from edgekit.errors import (
    ConfigError,
    DeviceCrashError,
    DeviceError,
    DeviceFullError,
    HostKeyError,
    UnauthorizedError,
)
from edgekit.manifest import Member, Variant
from edgekit.progress import Progress
from edgekit.runtime.choosing import Rejected
from edgekit.runtime.survey import Benched
from edgekit.search.store import Store, key_of
from edgekit.strict import parse
from edgekit.trials import RUNS, WARMUP
from edgekit.wording import counted

PLAIN = "plain"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LOST = (UnauthorizedError, HostKeyError, DeviceFullError, DeviceCrashError)  # what waiting does not mend

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latency:
    """What a device said of one file. `problem` says why it does not run there, and then all else is empty."""

    median_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    plain_median_ms: float | None = None  # of the plain file, in the same turns
    peak_rss_bytes: int | None = None  # of a process that holds this variant alone; None where no budget asks for it
    problem: str | None = None

    @property
    def ratio(self) -> float | None:
        """Of the plain file's latency; below 1 is faster."""
        if self.median_ms is None or self.plain_median_ms is None:
            return None
        return self.median_ms / self.plain_median_ms


@dataclass(frozen=True)
class Candidate:
    """A bundle and which of its variants is meant."""

    bundle: Path
    variant: str


class Stopwatch:
    """Measures files on a device once; the store keeps what it said."""

    def __init__(self, url: str, store: Store, *, memory: bool, wait_s: float, progress: Progress) -> None:
        """With `memory`, peak memory too. A device that is away is waited for, up to `wait_s` seconds."""
        self.url = url
        self._store, self._memory, self._wait_s, self._progress = store, memory, wait_s, progress

    def measure(self, plain: Candidate, candidates: Mapping[str, Candidate]) -> dict[str, Latency]:
        """The latency of each candidate by its name, beside the plain one's. Raises DeviceError."""
        reference = _sha256(plain)
        keys = {name: self._key(reference, candidate) for name, candidate in candidates.items()}
        known = {name: found for name, key in keys.items() if (found := self._store.get(key)) is not None}
        missing = {name: candidate for name, candidate in candidates.items() if name not in known}
        if missing:
            for name, latency in self._timed(plain, missing).items():
                known[name] = asdict(latency)
                self._store.put(keys[name], known[name])
        return {name: parse(Latency, known[name], where="a measured latency") for name in candidates}

    def _key(self, reference: str, candidate: Candidate) -> str:
        return key_of("latency", self.url, reference, _sha256(candidate), WARMUP, RUNS, self._memory)

    def _timed(self, plain: Candidate, candidates: Mapping[str, Candidate]) -> dict[str, Latency]:
        """All of them together; where a program on the device crashed, one by one, and who crashes it has a problem."""
        try:
            return self._patiently(lambda: self._on_device(plain, candidates))
        except DeviceCrashError as problem:
            if len(candidates) == 1:
                return {name: Latency(problem=str(problem)) for name in candidates}
        alone = (self._timed(plain, {name: candidate}) for name, candidate in candidates.items())
        return {name: latency for found in alone for name, latency in found.items()}

    def _patiently(self, ask: Callable[[], dict[str, Latency]]) -> dict[str, Latency]:
        """What the device says, as soon as it is there."""
        deadline_s, pause_s = time.monotonic() + self._wait_s, FIRST_WAIT_S
        while True:
            try:
                return ask()
            except LOST:
                raise
            except DeviceError as problem:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise
                log.warning("the search pauses: %s; tried again for %.0f s more", problem, left_s)
                with self._progress.task(f"waiting for {self.url}", 1) as advance:
                    time.sleep(min(pause_s, left_s))
                    advance(1, str(problem))
                pause_s = min(2 * pause_s, LONGEST_WAIT_S)

    def _on_device(self, plain: Candidate, candidates: Mapping[str, Candidate]) -> dict[str, Latency]:
        count = len(candidates)
        with tempfile.TemporaryDirectory(prefix="edgekit-latency-") as folder, opened_device(self.url) as device:
            bundle = merged({PLAIN: plain, **candidates}, Path(folder, "trials-0.edgekit"))
            with self._progress.task(f"time {counted(count, 'recipe')} ({self.url})", 1) as advance:
                deployed = deploy(bundle, device)
                reply = deployed.bench(every=True, warmup=WARMUP, runs=RUNS)
                benched = {item.choice.variant: item for item in reply.results}
                if PLAIN not in benched:
                    raise ConfigError(f"{self.url} does not run the plain file: {_why(reply.rejected, PLAIN)}")
                said = {name: self._said(deployed, name, benched, reply.rejected) for name in candidates}
                advance(1, "timed")
        return said

    def _said(
        self, deployed: DeployedBundle, name: str, benched: Mapping[str, Benched], rejected: Sequence[Rejected]
    ) -> Latency:
        if name not in benched:
            return Latency(problem=_why(rejected, name))
        timing, plain = benched[name].timing, benched[PLAIN].timing
        latency = Latency(timing.median_ms, timing.p90_ms, timing.p99_ms, plain.median_ms)
        if not self._memory:
            return latency
        return replace(latency, peak_rss_bytes=deployed.bench(name, warmup=0, runs=1).peak_rss_bytes)


def merged(candidates: Mapping[str, Candidate], output: Path) -> Path:
    """One bundle with these variants under these names, so that a device times them in turns.

    They are of one model: inputs, outputs and golden inputs are the first's.
    """
    variants: list[Variant] = []
    members: dict[str, Path] = {}
    manifest = None
    for name, candidate in candidates.items():
        with Bundle.open(candidate.bundle) as bundle:
            manifest = manifest or bundle.manifest
            variant = bundle.variant(candidate.variant)
            path = f"{name}{Path(variant.member.path).suffix}"
            members[path] = _write(output.with_name(path), bundle.read(variant.member.path))
            if not variants:
                golden = bundle.manifest.golden.member.path
                members[golden] = _write(output.with_name(golden), bundle.read(golden))
            member = Member(path, variant.member.sha256, variant.member.bytes)
            variants.append(replace(variant, id=name, member=member))
    assert manifest is not None  # PLAIN is always among them
    write_bundle(output, replace(manifest, variants=tuple(variants)), members)
    return output


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _sha256(candidate: Candidate) -> str:
    with Bundle.open(candidate.bundle) as bundle:
        return bundle.variant(candidate.variant).member.sha256


def _why(rejected: Sequence[Rejected], name: str) -> str:
    return next((item.reason for item in rejected if item.variant == name), "it was not measured")
