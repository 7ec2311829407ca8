"""Google's benchmark_model on a device: the way to a phone's GPU and NPU delegates, which our own runner does not take.

The user brings the binary for the device's ABI. What it prints is parsed by the words of its source
(github.com/google-ai-edge/LiteRT, tflite/tools/benchmark/benchmark_model.cc and benchmark_tflite_model.cc).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.devices.deploy import TIMEOUT_S
from edgekit.devices.pushing import push_all
from edgekit.devices.transport import Transport, checked, describe_failure
from edgekit.errors import ConfigError, DeviceError, EngineError, did_you_mean
from edgekit.manifest import Variant
from edgekit.runtime.choosing import ranked
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.trust import check_signature

DELEGATES: Mapping[str, tuple[str, ...]] = {  # what turns each on
    "cpu": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    "nnapi": ("--use_nnapi=true",),
}
_NAMES = {"cpu": "XNNPACK", "gpu": "GPU", "nnapi": "NNAPI"}
_NUMBER = r"([0-9.eE+-]+)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_COUNTS = re.compile(r"^.*\bcount=[0-9]+ .*$", re.MULTILINE)
_PAIR = re.compile(rf"(\w+)={_NUMBER}")
_PEAK = re.compile(rf"Memory footprint delta from the start of the tool \(MB\): init=\S+ overall={_NUMBER}")


@dataclass(frozen=True)
class BenchmarkFigures:
    """What benchmark_model measured. It keeps no samples; None is what its version does not print."""

    variant: str
    delegate: str  # one of DELEGATES
    delegated: str  # how much of the graph it took: "all", "partly, in 2 parts", "nothing", "not said"
    threads: int
    runs: int
    warmup: int
    init_ms: float
    first_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    std_ms: float
    median_ms: float | None = None
    p95_ms: float | None = None
    memory_bytes: int | None = None  # what the tool's own footprint grew by, which it calls approximate


def run_benchmark_model(
    path: Path,
    device: Transport,
    binary: Path,
    *,
    variant: str | None = None,
    delegate: str = "cpu",
    warmup: int = DEFAULT_WARMUP,
    runs: int = DEFAULT_RUNS,
    threads: int = 1,
    flags: Sequence[str] = (),
    require_signature: bool = False,
    trust: Path | None = None,
) -> BenchmarkFigures:
    """Push `binary` and one TFLite of the bundle, and measure it on made-up inputs.

    `flags` go to the binary after those that the arguments stand for. Raises ConfigError, BundleError, EngineError
    when the bundle has no TFLite, DeviceError when the binary fails or says nothing that is known.
    """
    if delegate not in DELEGATES:
        raise ConfigError(f"no delegate '{delegate}'{did_you_mean(delegate, DELEGATES)}")
    if runs < 1 or warmup < 1:
        raise ConfigError(f"runs is {runs}, warmup {warmup}; benchmark_model takes at least 1 of each")
    if not binary.is_file():
        raise ConfigError(f"{binary}: no such file; give benchmark_model, built for the device's ABI")
    with Bundle.open(path) as bundle, tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        check_signature(bundle, require=require_signature, trust=trust)
        chosen = _chosen(bundle, variant)
        model = Path(folder, "model.tflite")
        model.write_bytes(bundle.read(chosen.member.path))
        program, graph = push_all(device, [binary, model])
    argv = [
        *(f"./{program}", f"--graph={graph}", f"--num_threads={threads}", f"--num_runs={runs}"),
        *(f"--warmup_runs={warmup}", "--min_secs=0", "--warmup_min_secs=0", *DELEGATES[delegate], *flags),
    ]
    result = checked(device, argv, timeout_s=TIMEOUT_S, heard=device.listener)
    figures = parse_benchmark(f"{result.stdout}\n{result.stderr}", delegate, variant=chosen.id, threads=threads)
    if figures is None:
        raise DeviceError(f"{describe_failure(result, device.url)}; it said no timings that edgekit knows")
    return figures


def parse_benchmark(text: str, delegate: str, *, variant: str, threads: int) -> BenchmarkFigures | None:
    """Figures from what benchmark_model prints; None where they are not all there."""
    timings, counts = _TIMINGS.search(text), _COUNTS.findall(text)
    if timings is None or len(counts) < 2:
        return None
    warmup, timed = ({name: float(value) for name, value in _PAIR.findall(line)} for line in counts[-2:])
    if not {"count", "avg", "min", "max", "std"} <= set(timed):
        return None
    init_us, first_us, _, _ = map(float, timings.groups())
    memory = _PEAK.search(text)
    return BenchmarkFigures(
        variant=variant,
        delegate=delegate,
        delegated=_delegated(text, _NAMES[delegate]),
        threads=threads,
        runs=int(timed["count"]),
        warmup=int(warmup["count"]),
        init_ms=init_us / 1e3,
        first_ms=first_us / 1e3,
        mean_ms=timed["avg"] / 1e3,
        min_ms=timed["min"] / 1e3,
        max_ms=timed["max"] / 1e3,
        std_ms=timed["std"] / 1e3,
        median_ms=timed["median"] / 1e3 if "median" in timed else None,
        p95_ms=timed["p95"] / 1e3 if "p95" in timed else None,
        memory_bytes=round(float(memory[1]) * (1 << 20)) if memory else None,
    )


def _delegated(text: str, name: str) -> str:
    if re.search(rf"Explicitly applied {name} delegate, and the model graph will be completely executed", text):
        return "all"
    parts = re.search(rf"Explicitly applied {name} delegate, and the model graph will be partially.* w/ (\d+) ", text)
    if parts:
        return f"partly, in {parts[1]} parts"
    return "nothing" if f"Though {name} delegate is explicitly applied" in text else "not said"


def _chosen(bundle: Bundle, variant: str | None) -> Variant:
    candidates = ranked(bundle.manifest) if variant is None else [bundle.variant(variant)]
    tflite = next((item for item in candidates if item.format == "tflite"), None)
    if tflite is None:
        raise EngineError(f"{bundle.path.name}: benchmark_model runs TFLite alone: {variant or 'no variant'} is none")
    return tflite
