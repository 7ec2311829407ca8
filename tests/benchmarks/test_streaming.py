"""The streaming benchmark, on few windows of the real data."""

from __future__ import annotations

import pytest

from benchmarks.streaming import study
from examples.watch import load_watch


def test_streaming_answers_are_those_of_whole_windows() -> None:
    pytest.importorskip("seglearn")
    train, test = load_watch()
    found = study(train.spread(60), test.spread(12), epochs=1, units=8)
    assert found["windows"] == 12
    assert {"tflite-fp32", "tflite-dynamic-int8", "tflite-int8"} <= set(found["variants"])
    for name, figures in found["variants"].items():
        if name.endswith("fp32"):
            assert figures["largest_difference_from_whole_windows"] < 1e-5
            assert figures["top1"] == found["float_top1"]
        assert figures["bytes"] > 0
