"""Memory and time of a command with its children."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import process_tree
from benchmarks.process_tree import memory_mib, python, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HOLD = "held = b'x' * ({size} << 20); import time; time.sleep(0.5)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}, 'the child'])"


def test_the_memory_of_children_counts() -> None:
    small, large = (run(python("-c", PARENT.format(code=HOLD.format(size=size)))) for size in (1, 101))
    assert 95 < large.peak_mib - small.peak_mib < 105
    assert 95 < large.anonymous_mib - small.anonymous_mib < 105
    assert 95 < large.shared_once_mib - small.shared_once_mib < 105
    assert large.shared_once_mib < large.peak_mib, "both processes map the same interpreter"
    assert large.wall_s > 0.5


def test_processor_time_of_children_counts() -> None:
    spin = "import time; start = time.process_time()\nwhile time.process_time() - start < 0.3: pass"
    idle, busy = (run(python("-c", PARENT.format(code=code))).cpu_s for code in ("", spin))
    assert busy - idle > 0.25


def test_a_phase_is_known_by_a_word_in_a_command_line() -> None:
    taken = run(python("-c", PARENT.format(code=HOLD.format(size=20))), words=("the child", "nobody"))
    assert taken.peaks_mib == {"the child": taken.peak_mib, "nobody": 0.0}


def test_this_process_takes_memory() -> None:
    held = memory_mib(os.getpid())
    assert held["Rss"] >= held["Pss"] > held["Anonymous"] > 1


def test_a_command_that_fails_ends_the_measurement_with_its_last_words() -> None:
    with pytest.raises(SystemExit, match="ended with 3:\nalas"):
        run(python("-c", "print('alas'); raise SystemExit(3)"))


def test_a_command_that_takes_too_much_is_stopped_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_tree, "LIMIT_MIB", 50.0)
    alive = tmp_path / "alive"
    code = f"held = b'x' * (100 << 20); import time; time.sleep(1); open({str(alive)!r}, 'w')"
    with pytest.raises(SystemExit, match="MiB: stopped"):
        run(python("-c", PARENT.format(code=code)))
    time.sleep(1.2)
    assert not alive.exists()
