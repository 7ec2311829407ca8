from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import pack

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate_real.py"
JUDGE = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
from gate_real import judge
print(json.dumps(judge(Path(sys.argv[1]), Path(sys.argv[1]), "--gate-pairs=5", "--gate-most-pairs=5")))
"""


def test_one_verdict(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", JUDGE, pack(tmp_path)]
    told = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert told["verdict"] in ("pass", "fail", "inconclusive")
    assert told["other_failures"] == 0
    assert told["estimate"]["pairs"] == 5
    assert told["baseline_ms"] > 0


@pytest.mark.parametrize(
    ("same", "deeper", "exit_code"),
    [("pass", "fail", 0), ("inconclusive", "fail", 0), ("fail", "fail", 1), ("pass", "pass", 1)],
)
def test_how_it_ends(tmp_path: Path, same: str, deeper: str, exit_code: int) -> None:
    """From verdicts that are there; none is reached anew."""
    lines = [
        {"run": name, "verdict": word, "reason": "", "exit_code": 0}
        for name, word in (("same 1", same), ("deeper 1", deeper))
    ]
    (tmp_path / "gate-real.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    argv = [sys.executable, SCRIPT, "--times", "1", "-o", tmp_path]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == exit_code
    alarms, caught = int(same == "fail"), int(deeper == "fail")
    assert f"of 1 each, {alarms} equal bundles failed, and {caught} slower ones were caught" in ended.stdout
