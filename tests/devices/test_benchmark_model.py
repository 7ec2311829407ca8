"""Google's benchmark_model: its output as its source prints it, and the way through the verb with a stand-in for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.cli.benchmark_model import DELEGATES
from edgekit.devices import benchmark_model
from edgekit.devices.benchmark_model import parse_benchmark
from tests.devices.phone import Phone

GPU = """STARTING!
Log parameter values verbosely: [0]
Min num runs: [600]
Num threads: [1]
Min warmup runs: [20]
Graph: [model_fp16.tflite]
#threads used for CPU inference: [1]
Use gpu: [1]
Loaded model model_fp16.tflite
INFO: Created TensorFlow Lite delegate for GPU.
GPU delegate created.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
The input model file size (MB): 16.5922
Initialized session in 10115.4ms.
Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=20 first=31530 curr=28680 min=27679 max=31530 avg=28473 std=769

Running benchmark for at least 600 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=600 first=28119 curr=28561 min=26926 max=33050 avg=28289.4 std=512

Inference timings in us: Init: 10115400, First inference: 31530, Warmup (avg): 28473, Inference (avg): 28289.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
Memory footprint delta from the start of the tool (MB): init=120.5 overall=122.5
"""
# As new versions print them: percentiles, and a delegate that takes a part.
PARTLY = GPU.replace(
    "completely executed by the delegate.", "partially executed by the delegate w/ 2 delegate kernels."
)
PARTLY = PARTLY.replace("avg=28289.4 std=512", "avg=28289.4 std=512 p5=27100 median=28250 p95=29400")
NOTHING = GPU.replace(
    "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
    "Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.",
)

# A shell script that answers as benchmark_model does; no model is run.
FAKE_BENCHMARK_MODEL = """#!/bin/sh
for word in "$@"; do
    case $word in
        --graph=*) [ -s "${word#--graph=}" ] || exit 3 ;;
        --num_runs=*) runs=${word#*=} ;;
        --warmup_runs=*) warmup=${word#*=} ;;
        --use_gpu=true) echo "Though GPU delegate is explicitly applied, the model graph will not be executed" ;;
        --silent) exit 0 ;;
        --broken) echo "Failed to load model" >&2; exit 1 ;;
    esac
done
echo "count=$warmup first=90 curr=50 min=40 max=90 avg=60 std=5"
echo "count=$runs first=50 curr=50 min=40 max=80 avg=55.5 std=4"
echo "Inference timings in us: Init: 1200, First inference: 90, Warmup (avg): 60, Inference (avg): 55.5"
"""


@pytest.fixture
def fake(tmp_path: Path) -> str:
    path = tmp_path / "fake_benchmark_model"
    path.write_text(FAKE_BENCHMARK_MODEL)
    return str(path)


@pytest.mark.parametrize(
    ("text", "delegated", "median", "p95"),
    [(GPU, "all", None, None), (PARTLY, "partly, in 2 parts", 28.25, 29.4), (NOTHING, "nothing", None, None)],
)
def test_what_it_prints(text: str, delegated: str, median: float | None, p95: float | None) -> None:
    figures = parse_benchmark(text, "gpu", variant="tflite-fp16", threads=1)
    assert figures is not None
    assert (figures.delegated, figures.median_ms, figures.p95_ms) == (delegated, median, p95)
    assert (figures.runs, figures.warmup) == (600, 20)
    assert (figures.init_ms, figures.first_ms) == (10115.4, 31.53)
    assert (figures.mean_ms, figures.min_ms, figures.max_ms, figures.std_ms) == (28.2894, 26.926, 33.05, 0.512)
    assert figures.memory_bytes == 122.5 * (1 << 20)


def test_another_delegate_is_not_taken_for_ours() -> None:
    figures = parse_benchmark(GPU, "nnapi", variant="tflite-fp16", threads=1)
    assert figures is not None
    assert figures.delegated == "not said"


@pytest.mark.parametrize("cut", ["Inference timings", "count=600", "avg=28289.4"])
def test_output_that_is_cut_short(cut: str) -> None:
    assert parse_benchmark(GPU.partition(cut)[0], "gpu", variant="tflite-fp16", threads=1) is None


def test_the_verb_offers_every_delegate() -> None:
    assert tuple(benchmark_model.DELEGATES) == DELEGATES


def test_the_verb_on_a_phone(
    tiny_bundle: Path, running_phone: Phone, fake: str, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["bench", str(tiny_bundle), "--device", running_phone.url(), "--benchmark-model", fake]
    assert main([*argv, "--delegate", "gpu", "--runs", "50", "--warmup", "7", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["tool"], said["variant"], said["device"]) == ("benchmark_model", "tflite-int8", running_phone.url())
    assert (said["runs"], said["warmup"], said["mean_ms"], said["delegated"]) == (50, 7, 0.0555, "nothing")
    assert main([*argv, "--variant", "tflite-fp32"]) == 0
    assert "tflite-fp32 on adb:" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--benchmark-flag=--silent",), 3, "it said no timings that edgekit knows"),
        (("--benchmark-flag=--broken",), 3, "stderr: Failed to load model"),
        (("--variant", "onnx-fp32"), 2, "runs TFLite alone"),
        (("--warmup", "0"), 2, "at least 1 of each"),
        (("--benchmark-model", "/no/such/file"), 2, "no such file; give benchmark_model"),
    ],
)
def test_what_goes_wrong(
    tiny_bundle: Path, fake: str, capfd: pytest.CaptureFixture[str], more: tuple[str, ...], code: int, message: str
) -> None:
    argv = ["bench", str(tiny_bundle), "--device", "local:", "--benchmark-model", fake, *more]
    assert main(argv) == code
    assert message in capfd.readouterr().err


def test_no_device(tiny_bundle: Path, fake: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_bundle), "--benchmark-model", fake]) == 2
    assert "--benchmark-model needs --device" in capfd.readouterr().err


def test_the_device_tests_take_it_along(tiny_bundle: Path, fake: str, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["test", str(tiny_bundle), "--device", "local:", "--benchmark-model", fake, "--json"]
    assert main(argv) == 0
    [device] = json.loads(capfd.readouterr().out)["devices"]
    assert device["figures"]["tflite-int8"]["benchmark_model.mean_ms"] == 0.0555
    assert "benchmark_model.mean_ms" not in device["figures"]["onnx-fp32"]
