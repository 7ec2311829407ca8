from __future__ import annotations

import pytest

from edgekit.errors import ConfigError
from edgekit.runtime.stages import StageTimes, measure_stages
from edgekit.runtime.timing import measure, summarize


def test_figures_of_known_samples() -> None:
    timing = summarize([number * 1_000_000 for number in range(1, 101)], warmup=7)
    assert (timing.warmup, timing.runs) == (7, 100)
    assert timing.median_ms == 50.5
    assert timing.p90_ms == pytest.approx(90.1)
    assert timing.p99_ms == pytest.approx(99.01)
    assert timing.samples_ms[:2] == (1.0, 2.0)


def test_one_call_runs_warmup_and_runs_times() -> None:
    calls: list[str] = []
    timing = measure({"a": lambda: calls.append("a")}, warmup=3, runs=45, block=20)["a"]
    assert len(calls) == 48
    assert (timing.warmup, timing.runs, len(timing.samples_ms)) == (3, 45, 45)


def test_several_calls_take_turns_in_blocks() -> None:
    calls: list[str] = []
    timings = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, warmup=1, runs=5, block=2)
    blocks = "ab" + "aaabbb" + "aaabbb" + "aabb"  # warm-up, then one untimed call at the head of each block
    assert "".join(calls) == blocks
    assert {name: timing.runs for name, timing in timings.items()} == {"a": 5, "b": 5}


@pytest.mark.parametrize("counts", [{"runs": 0}, {"warmup": -1}, {"block": 0}])
def test_counts_out_of_range(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"expected at least 1, 0 and 1"):
        measure({}, **counts)


def test_stages_of_a_gpu() -> None:
    samples = iter([StageTimes(9, 9, 9, 9, cuda_graph=False), *(StageTimes(n, 2, 0.5, 0.1, n > 1) for n in (1, 2, 3))])
    stages = measure_stages(lambda: next(samples), warmup=1, runs=3)
    assert (stages.h2d.min_ms, stages.h2d.median_ms, stages.h2d.max_ms) == (1, 2, 3)
    assert (stages.latency.median_ms, stages.compute.p99_ms, stages.enqueue.max_ms) == (4.5, 2, 0.1)
    assert stages.cuda_graph is False  # in each timed run, or it is not said
    with pytest.raises(ConfigError, match=r"runs is 0, warmup 0"):
        measure_stages(lambda: next(samples), warmup=0, runs=0)
