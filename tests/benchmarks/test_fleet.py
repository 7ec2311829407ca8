from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.tiny_models import pack, parts

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fleet.py"


def test_two_devices_side_by_side(tmp_path: Path) -> None:
    bundle, output = pack(tmp_path, parts()[1:2]), tmp_path / "fleet"
    argv = [sys.executable, SCRIPT, bundle, "--devices", "2", "-o", output]
    told = [subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(2)]
    assert told[0] == told[1], "what was measured is not measured again"
    (row,) = map(json.loads, (output / "fleet.jsonl").read_text().splitlines())
    assert (row["devices"], row["jobs"], row["tests"]) == (2, 2, 20)
    assert 0 < row["commands_s"] < 2 * row["wall_s"]
    assert row["harness_cpu_s_per_device"] > 0
