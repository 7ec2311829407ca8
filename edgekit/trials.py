"""A bundle on a device, through the device side alone: deployed, held to its golden vectors, timed and tested."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.devices import opened_device
from edgekit.devices.deploy import deploy
from edgekit.devices.testing import TestOutcome, run_device_tests
from edgekit.progress import Progress
from edgekit.runtime.survey import BenchReply, GoldenReply, Probe

WARMUP = 50
RUNS = 400
QUICK = "not faults"  # a build leaves out what kills and starves programs: edgekit test does not


@dataclass(frozen=True)
class Trial:
    """What a device said."""

    device: str  # its URL
    probe: Probe
    golden: GoldenReply
    bench: BenchReply
    tests: TestOutcome


def time_on(url: str, bundle: Path, progress: Progress) -> dict[str, float]:
    """The median time in ms of every variant that the device can run, in turns, on one thread. Raises as `try_on`."""
    with progress.task(f"candidates ({url})", 1) as advance, opened_device(url) as device:
        bench = deploy(bundle, device).bench(every=True, warmup=WARMUP, runs=RUNS)
        advance(1, "timed")
        return {result.choice.variant: result.timing.median_ms for result in bench.results}


def try_on(url: str, bundle: Path, progress: Progress) -> Trial:
    """Deploy, compare, time (variants in turns, one thread) and test. Raises DeviceError, BundleError."""
    with progress.task(f"device tests ({url})", 4) as advance, opened_device(url) as device:
        deployed = deploy(bundle, device)
        advance(1, "deployed")
        golden = deployed.golden(every=True)
        advance(1, "golden")
        bench = deployed.bench(every=True, warmup=WARMUP, runs=RUNS)
        advance(1, "timed")
        tests = run_device_tests(bundle, url, select=QUICK)
        advance(1, "tested")
        return Trial(url, deployed.probe(), golden, bench, tests)
