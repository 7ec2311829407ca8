from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tiny_models import pack

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def figures_of(script: str, *argv: object) -> Any:
    ended = subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, argv)], capture_output=True, text=True, check=True
    )
    return json.loads(ended.stdout)


def test_it_sets_a_session_beside_every_way_of_its_engine(tmp_path: Path) -> None:
    figures = figures_of("runtime_overhead.py", pack(tmp_path), "--runs", 20, "--warmup", 2)
    assert (figures["warmup"], figures["runs"]) == (2, 20)
    ways = {"litert": {"set_get", "tensor_views", "compiled_model"}, "onnxruntime": {"run", "io_binding"}}
    for engine, names in ways.items():
        for case in ("one_operator", "one_mib", "bundle"):
            found = figures[engine][case]
            assert found["fastest_bare"] in names
            assert all(found[f"{name}_median_us"] > 0 for name in (*names, "session_raw", "session_float_out"))
            assert found["raw_ratio"] > 0


def test_starts_memory_and_a_soak(tmp_path: Path) -> None:
    figures = figures_of("runtime_cold.py", pack(tmp_path), "--rounds", 1, "--soak", 20)
    for engine in ("litert", "onnxruntime"):
        assert figures[engine]["open_ms"]["edgekit"] > 0
        assert figures[engine]["rss"]["bare"] > 1 << 20
    assert 10_000 < figures["zipapp_bytes"] <= 100_000
    assert (figures["soak"]["runs"], figures["soak"]["opened"]) == (20, 1)
