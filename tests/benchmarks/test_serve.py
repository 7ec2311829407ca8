from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.tiny_models import pack

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve.py"


def test_it_tells_latency_statuses_and_memory(tmp_path: Path) -> None:
    seconds = ("--clients", "2", "--seconds", "1", "--overload-seconds", "1", "--crowd", "12")
    argv = [sys.executable, SCRIPT, pack(tmp_path), *seconds]
    figures = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    load, overload = figures["load"], figures["overload"]
    assert load["codes"] == {"200": load["answers"]}
    assert 0 < load["p50_ms"] <= load["p90_ms"] <= load["p99_ms"]
    assert set(overload["codes"]) == {"200", "503"}
    assert min(load["resident_mb_begin"], load["resident_mb_end"], overload["resident_mb_end"]) > 0
