"""An interrupted build leaves no half bundle, and --resume goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.cli import main
from tests.conftest import Digits
from tests.tiny_project import write_project

PROJECT = """\
name = "tiny"
version = "0.1.0"
model = "digits.keras"

[data]
train = "train.npz"
evaluation = "test.npz"

[[compress]]
step = "prune"
sparsity = 0.5
epochs = 40

[targets.local]
precision = ["fp32"]
"""
DEADLINE_S = 600.0


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_build_leaves_nothing_and_resumes(
    sent: signal.Signals, code: int, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, out = write_project(tmp_path, digits, PROJECT), tmp_path / "out"
    argv = [sys.executable, "-m", "edgekit", "build", str(project), "-o", str(out)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    wait_for_checkpoint(out, process)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, errors
    assert [path for path in out.iterdir() if not path.name.startswith(".")] == []
    done = max(int(path.stem.removeprefix("epoch-")) for path in out.rglob("epoch-*.npz"))

    assert main(["build", str(project), "-o", str(out), "--resume", "--verbose"]) == 0
    first = next(line for line in capsys.readouterr().err.splitlines() if "prune" in line)
    assert "prune to 50%" in first
    with Bundle.open(out / "tiny-0.1.0.edgekit") as bundle:
        bundle.verify()
    assert [path for path in out.iterdir() if path.name.startswith(".")] == []
    assert done >= 1


def heed_interrupts() -> None:
    """As in a terminal: what a shell runs in the background ignores interrupts, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not list(out.rglob("epoch-*.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.1)
