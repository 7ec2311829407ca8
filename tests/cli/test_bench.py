from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.runtime import Session
from edgekit.runtime.stages import StageTimes, measure_stages

Run = Callable[..., Any]


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
def test_figures(edgekit: Run, tiny_bundle: Path, device: tuple[str, ...]) -> None:
    counts = ("--runs", 5, "--warmup", 2, "--threads", 2)
    result = edgekit("bench", tiny_bundle, "--variant", "tflite-fp32", *counts, *device, "--json").json
    assert set(result) == {
        "variant", "engine", "accelerator", "device", "threads", "warmup", "runs",
        "median_ms", "p90_ms", "p99_ms", "samples_ms",
    }  # fmt: skip
    assert (result["variant"], result["device"]) == ("tflite-fp32", "local:")
    assert (result["runs"], result["warmup"], result["threads"], len(result["samples_ms"])) == (5, 2, 2, 5)
    assert result["engine"].startswith("litert ")


def test_the_best_variant_in_words(edgekit: Run, tiny_bundle: Path) -> None:
    ended = edgekit("bench", tiny_bundle, "--runs", 5)
    assert ended.exit_code == 0
    assert ended.stdout.startswith("tflite-int8 on local: ai-edge-litert")
    assert "5 runs after 20 warm-up" in ended.stdout


@pytest.fixture
def with_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each run were on a GPU."""
    times = StageTimes(h2d_ms=0.25, compute_ms=1.5, d2h_ms=0.125, enqueue_ms=0.0625, cuda_graph=True)
    found = measure_stages(lambda: times, warmup=0, runs=4)
    stages = dataclasses.replace(found, throughput_per_s=512.0)
    monkeypatch.setattr(Session, "stages", lambda session, inputs, *, warmup, runs: stages)


@pytest.mark.usefixtures("with_stages")
def test_figures_of_a_gpu_are_those_of_trtexec(edgekit: Run, tiny_bundle: Path) -> None:
    argv = ("bench", tiny_bundle, "--variant", "onnx-fp32", "--runs", 4)
    stages = edgekit(*argv, "--json").json["stages"]
    assert set(stages) == {
        "warmup", "runs", "throughput_per_s", "latency", "enqueue", "h2d", "compute", "d2h", "cuda_graph",
    }  # fmt: skip
    assert stages["latency"] == dict.fromkeys(("min_ms", "median_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"), 1.875)
    lines = edgekit(*argv).stdout.splitlines()
    assert lines[1] == "Throughput: 512.0 runs/s, one after the other, with a CUDA graph"
    assert [line.split("  ")[0] for line in lines[4:]] == [
        "Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency",
    ]  # fmt: skip
    assert lines[7].split()[-6:] == ["1.5000"] * 6


@pytest.mark.parametrize("argv", [("--runs", "0"), ("--warmup", "-1"), ("--variant", "none"), ("--threads", "0")])
def test_wrong_words(edgekit: Run, tiny_bundle: Path, argv: tuple[str, ...]) -> None:
    assert edgekit("bench", tiny_bundle, *argv).exit_code == 2


def test_no_bundle(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("bench", tmp_path / "none.edgekit")
    assert ended.exit_code == 2
    assert "none.edgekit: no such file" in ended.stderr
