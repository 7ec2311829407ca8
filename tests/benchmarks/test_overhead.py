from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.tiny_models import pack

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "overhead.py"


def test_it_prints_medians_and_ratios(tmp_path: Path) -> None:
    argv = [sys.executable, SCRIPT, pack(tmp_path), "--runs", "20", "--warmup", "2"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    figures = json.loads(ended.stdout)
    assert (figures["warmup"], figures["runs"], figures["bundle"]["variant"]) == (2, 20, "tflite-int8")
    for model in (figures["bundle"], figures["one_operator"]):
        assert model["bare_raw_median_us"] > 0
        assert model["raw_ratio"] > 0
        assert model["float_ratio"] > 0
