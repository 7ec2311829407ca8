"""The harness's options, read from pytest's configuration into a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: what pytest's options hold

import pytest

from edgekit.errors import ConfigError

if TYPE_CHECKING:
    from edgekit.gate import GateSettings

NO_BUNDLE = "no bundle: pytest --pyargs edgekit_device_tests --edgekit-bundle NAME.edgekit --edgekit-device local:"
LOCAL = "local:"
LEASE_WAIT_S = 600.0
SAMPLES = 500
_POSITIVE, _NOT_NEGATIVE = ("soak", "max_p90_ms", "max_memory_mib"), ("max_drop", "lease_wait")
_PATHS = ("bundle", "baseline", "report", "vendor_wheels", "benchmark_model")


OPTIONS: pytest.StashKey[Options] = pytest.StashKey()


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    bundle: Path | None
    baseline: Path | None
    devices: tuple[str, ...]
    require_device: bool
    live: bool
    report: Path | None
    evaluation: str | None
    samples: int
    metric: str | None
    max_drop: float
    max_p90_ms: float | None
    max_memory_mib: float | None
    accelerator: str | None
    soak_minutes: float | None
    lease_wait_s: float
    variant: str | None
    gate_budget: float
    gate_pairs: int
    gate_most_pairs: int
    calibrate: bool
    vendor_wheels: Path | None
    benchmark_model: Path | None

    def gate(self, floor: float) -> GateSettings:
        """The regression gate's settings on a device with this floor. Raises ConfigError on some that cannot be."""
        from edgekit.gate import GateSettings

        budget, pairs, most_pairs = self.gate_budget, self.gate_pairs, self.gate_most_pairs
        return GateSettings(budget=budget, floor=floor, pairs=pairs, most_pairs=most_pairs)


def declare(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("edgekit", "edge models on devices")
    add = group.addoption
    add("--edgekit-bundle", metavar="FILE", help="the bundle to test")
    add("--edgekit-device", metavar="URL", action="append", help="a device to test it on (default: local:); repeatable")
    add(
        "--edgekit-require-device",
        action="store_true",
        help="fail, rather than skip, without the device or without a variant's engine on it",
    )
    add("--edgekit-live", action="store_true", help="show what programs on the device print, while they run")
    add("--edgekit-lease-wait", metavar="S", type=float, default=LEASE_WAIT_S, help="until a device must be free (600)")
    add("--edgekit-report", metavar="FILE", help="write the figures there as JSON")
    add("--edgekit-evaluation", metavar="DATA", help="labelled data (.npz): accuracy is measured on the device")
    add("--edgekit-samples", metavar="N", type=int, default=SAMPLES, help="of the data, at most (500)")
    add("--edgekit-metric", metavar="NAME", help="top1 or module:function (default: the one of the bundle)")
    add("--edgekit-max-drop", metavar="X", type=float, default=0.01, help="the metric's allowed drop (0.01)")
    add("--edgekit-max-p90-ms", metavar="MS", type=float, help="the longest p90 of a variant's latency")
    add("--edgekit-max-memory-mib", metavar="MIB", type=float, help="the most memory that a variant's process may take")
    add("--edgekit-accelerator", metavar="WORD", help="what must run every variant: XNNPACK, gpu, …")
    add("--edgekit-soak", metavar="MINUTES", type=float, help="run the best variant for so long; 10 is usual")
    add("--edgekit-vendor-wheels", metavar="DIR", help="wheels that go to the device along with the bundle")
    add("--edgekit-benchmark-model", metavar="FILE", help="measure with Google's binary on the device too")
    _declare_gate(parser)


def _declare_gate(parser: pytest.Parser) -> None:
    group = parser.getgroup("edgekit")
    add = group.addoption
    add("--edgekit-baseline", metavar="FILE", help="an older bundle: is the one under test slower?")
    add("--edgekit-variant", metavar="ID", help="what is held against the baseline (default: the best that runs there)")
    add("--edgekit-gate-budget", metavar="X", type=float, default=0.05, help="the allowed slowdown (0.05)")
    add("--edgekit-gate-pairs", metavar="N", type=int, default=10, help="pairs of processes before a verdict (10)")
    add("--edgekit-gate-most-pairs", metavar="N", type=int, default=40, help="pairs at most (40)")
    add("--edgekit-calibrate", action="store_true", help="measure the device's floor first, with the baseline alone")


def read_options(config: pytest.Config) -> Options:
    """The options of a session. Raises UsageError."""

    def get(name: str) -> Any:
        return config.getoption(f"edgekit_{name}")

    named = {name: get(name) for name in _PATHS}
    paths = {name: None if value is None else Path(value) for name, value in named.items()}
    urls = tuple(get("device") or [LOCAL])
    twice = {url for url in urls if urls.count(url) > 1}
    if twice:
        raise pytest.UsageError(f"--edgekit-device {twice.pop()} is given twice; each device once")
    if get("samples") < 1:
        raise pytest.UsageError(f"--edgekit-samples is {get('samples')}, expected 1 or more")
    for name in _POSITIVE:
        if get(name) is not None and not 0 < get(name) < math.inf:
            raise pytest.UsageError(f"--edgekit-{name.replace('_', '-')} is {get(name):g}, expected more than 0")
    for name in _NOT_NEGATIVE:
        if not 0 <= get(name) < math.inf:
            raise pytest.UsageError(f"--edgekit-{name.replace('_', '-')} is {get(name):g}, expected 0 or more")
    _check_files(paths, get("evaluation"))
    if paths["bundle"] is None and get("require_device"):
        raise pytest.UsageError(f"--edgekit-require-device would pass with every test skipped: {NO_BUNDLE}")
    options = Options(
        bundle=paths["bundle"],
        baseline=paths["baseline"],
        devices=urls,
        require_device=get("require_device"),
        live=get("live"),
        report=paths["report"],
        evaluation=get("evaluation"),
        samples=get("samples"),
        metric=get("metric"),
        max_drop=get("max_drop"),
        max_p90_ms=get("max_p90_ms"),
        max_memory_mib=get("max_memory_mib"),
        accelerator=get("accelerator"),
        soak_minutes=get("soak"),
        lease_wait_s=get("lease_wait"),
        variant=get("variant"),
        gate_budget=get("gate_budget"),
        gate_pairs=get("gate_pairs"),
        gate_most_pairs=get("gate_most_pairs"),
        calibrate=get("calibrate"),
        vendor_wheels=paths["vendor_wheels"],
        benchmark_model=paths["benchmark_model"],
    )
    if options.baseline is not None:
        _check_gate(options)
    return options


def _check_files(paths: Mapping[str, Path | None], evaluation: str | None) -> None:
    """What is not there is a mistake, and no test that failed."""
    wheels, binary = paths["vendor_wheels"], paths["benchmark_model"]
    if wheels is not None and not wheels.is_dir():
        raise pytest.UsageError(f"--edgekit-vendor-wheels: {wheels} is no folder of wheels")
    if binary is not None and not binary.is_file():
        raise pytest.UsageError(f"--edgekit-benchmark-model: no file {binary}; give one built for the device's ABI")
    if evaluation is not None and ":" not in evaluation and not Path(evaluation).is_file():
        raise pytest.UsageError(f"--edgekit-evaluation: no file {evaluation}; give an .npz, or module:function")


def _check_gate(options: Options) -> None:
    try:
        options.gate(floor=0.0)
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from problem
