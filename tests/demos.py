"""`edgekit demo`, run once for all tests of a session that look at what it makes."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 900.0
_BUNDLE = Path("out", "digits-1.0.0.edgekit")


def edgekit() -> Path:
    return Path(sys.executable).with_name("edgekit")


def run(argv: list[str], folder: Path) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{shlex.join(argv)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def demo_folder(factory: pytest.TempPathFactory) -> Path:
    """A copy of a folder in which `edgekit demo -o out` was run; the workers of pytest-xdist share the run."""
    base = factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-demo"
    made.mkdir(exist_ok=True)
    with (made / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (made / _BUNDLE).exists():
            run([str(edgekit()), "demo", "-o", "out"], made)
    return Path(shutil.copytree(made, factory.mktemp("demo"), dirs_exist_ok=True))


def demo_bundle(factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle, a copy of one's own."""
    return demo_folder(factory) / _BUNDLE
