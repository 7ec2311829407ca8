"""Questions put to a whole bundle on this machine: what is here, does it verify, how fast and how right is it.

The answers are plain values, so that they cross to another machine as JSON.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import EngineError
from edgekit.manifest import Member
from edgekit.runtime.choosing import Choice, Rejected, ranked
from edgekit.runtime.engines import HERE, EngineStatus, Shelf, find_engines
from edgekit.runtime.golden import GoldenResult, check_golden, read_golden
from edgekit.runtime.memory import peak_rss_bytes
from edgekit.runtime.opening import open_session
from edgekit.runtime.profiling import Profile
from edgekit.runtime.session import Session
from edgekit.runtime.stages import Stages
from edgekit.runtime.timing import Timing, measure

Progress = Callable[[str], object]


@dataclass(frozen=True)
class Probe:
    """What a machine is and has."""

    system: str  # "Linux"
    machine: str  # "aarch64"
    cpus: int
    python: str
    numpy: str
    engines: tuple[EngineStatus, ...]


@dataclass(frozen=True)
class RunReply:
    """What ran, when outputs were written to a file."""

    choice: Choice


@dataclass(frozen=True)
class Benched:
    """One variant's latency."""

    choice: Choice
    timing: Timing
    stages: Stages | None = None  # on a GPU, of as many more runs
    profile: Profile | None = None  # where it was asked for, of as many more runs


@dataclass(frozen=True)
class BenchReply:
    """Latency of several variants, measured in turns."""

    results: tuple[Benched, ...]
    rejected: tuple[Rejected, ...]
    # The most memory that the measuring process held at once: Python, numpy, the engine and all variants together. None
    # where the system does not say.
    peak_rss_bytes: int | None = None


@dataclass(frozen=True)
class GoldenReply:
    """Several variants held to the golden outputs."""

    results: tuple[GoldenResult, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class VerifyReply:
    """Every member that was verified."""

    members: tuple[Member, ...]


def probe() -> Probe:
    """Look at this machine."""
    return Probe(
        system=platform.system(),
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        numpy=np.__version__,
        engines=tuple(find_engines().values()),
    )


def bench(
    bundle: Bundle,
    variants: Sequence[str | None],
    *,
    warmup: int,
    runs: int,
    threads: int,
    progress: Progress,
    strict: bool = True,
    trust: Path | None = None,
    profile: bool = False,
    accelerator: str | None = None,
) -> BenchReply:
    """Measure variants in turns on the first golden input; None stands for the best that runs here.

    A variant that does not open is an EngineError, or unless `strict` among the rejected; `trust` and `accelerator` as
    for `open_bundle`.
    """
    sample = read_golden(bundle).first
    with ExitStack() as stack:
        open_one = partial(open_session, bundle, threads=threads, trust=trust, accelerator=accelerator)
        sessions, rejected = open_each(open_one, variants, stack, strict)
        progress(f"measuring {', '.join(sessions) or 'nothing'}: {warmup} warm-up and {runs} timed runs each")
        calls = {name: _call(session, sample) for name, session in sessions.items()}
        timings = measure(calls, warmup=warmup, runs=runs)
        results = tuple(
            Benched(
                session.choice,
                timings[name],
                session.stages(sample, warmup=warmup, runs=runs),
                session.profile(sample, warmup=warmup, runs=runs) if profile else None,
            )
            for name, session in sessions.items()
        )
    return BenchReply(results, rejected, peak_rss_bytes())


def golden(
    bundle: Bundle,
    variants: Sequence[str | None],
    *,
    threads: int,
    progress: Progress,
    strict: bool = True,
    trust: Path | None = None,
    shelf: Shelf = HERE,
) -> GoldenReply:
    """Hold variants to the golden outputs, each within its own tolerance; `strict` and `trust` as for `bench`."""
    vectors = read_golden(bundle)
    results = []
    with ExitStack() as stack:
        open_one = partial(open_session, bundle, threads=threads, trust=trust, shelf=shelf)
        sessions, rejected = open_each(open_one, variants, stack, strict)
        for name, session in sessions.items():
            progress(f"comparing {name} with the golden outputs")
            results.append(check_golden(session, vectors, limit=bundle.variant(name).golden_tolerance))
    return GoldenReply(tuple(results), rejected)


def every_variant(bundle: Bundle) -> list[str]:
    """Ids of all variants, the preferred first."""
    return [variant.id for variant in ranked(bundle.manifest)]


def open_each(
    open_one: Callable[..., Session], variants: Sequence[str | None], stack: ExitStack, strict: bool
) -> tuple[dict[str, Session], tuple[Rejected, ...]]:
    """Sessions by variant id. What is asked for by name must open; of all variants, those that cannot are rejected."""
    sessions: dict[str, Session] = {}
    rejected: list[Rejected] = []
    for variant in variants:
        try:
            session = stack.enter_context(open_one(variant=variant))
        except EngineError as problem:
            if strict or variant is None:
                raise
            rejected.append(Rejected(variant, str(problem)))
        else:
            sessions[session.choice.variant] = session
    return sessions, tuple(rejected)


def _call(session: Session, sample: dict[str, np.ndarray]) -> Callable[[], object]:
    return lambda: session.run(sample)
