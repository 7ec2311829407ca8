"""The best variant for minutes on end: it does not fail, drift from its outputs, or take more and more memory."""

import time

import pytest

from edgekit.devices import DeployedBundle
from edgekit.devices.conditions import known, read_condition
from edgekit.pytest_plugin import Options, Record

PROCESS_S = 20.0  # each process runs for about so long
MOST_RUNS = 200_000
LATE = 4  # the last process is held against one in four from the beginning
MOST_GROWTH = 1.2  # of a process's memory between them


@pytest.mark.latency
@pytest.mark.soak
def test_soak(edgekit_deployed: DeployedBundle, edgekit_options: Options, edgekit_record: Record) -> None:
    """Processes one after the other, as long as --edgekit-soak says."""
    if edgekit_options.soak_minutes is None:
        pytest.skip("takes minutes: --edgekit-soak 10")
    end = time.monotonic() + 60 * edgekit_options.soak_minutes
    (first,) = edgekit_deployed.bench(runs=50).results
    variant = first.choice.variant
    runs = max(50, min(MOST_RUNS, int(PROCESS_S * 1000 / first.timing.median_ms)))
    medians, memory = list[float](), list[int]()
    while time.monotonic() < end or not medians:
        reply = edgekit_deployed.bench(variant, runs=runs)
        medians.append(reply.results[0].timing.median_ms)
        memory.append(reply.peak_rss_bytes or 0)
        edgekit_record(variant, {"soak_condition": known(read_condition(edgekit_deployed.device))})
    edgekit_record(variant, {"soak_minutes": edgekit_options.soak_minutes, "soak_medians_ms": medians})
    early = max(memory[: max(1, len(memory) // LATE)])
    assert memory[-1] <= MOST_GROWTH * early, f"from {early} to {memory[-1]} bytes at the peak"
    (golden,) = edgekit_deployed.golden(variant).results
    assert golden.passed, f"after {edgekit_options.soak_minutes:g} minutes the largest error is {golden.max_error}"
