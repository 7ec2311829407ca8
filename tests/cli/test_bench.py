from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("argv", [("--runs", "0"), ("--warmup", "-1"), ("--variant", "none"), ("--threads", "0")])
def test_wrong_words(edgekit: Run, tiny_bundle: Path, argv: tuple[str, ...]) -> None:
    assert edgekit("bench", tiny_bundle, *argv).exit_code == 2


def test_no_bundle(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("bench", tmp_path / "none.edgekit")
    assert ended.exit_code == 2
    assert "none.edgekit: no such file" in ended.stderr
