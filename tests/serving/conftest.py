from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import SOUNDS, pack

DEADLINE_S = 30.0


@dataclass
class Server:
    """`edgekit serve` in a process of its own, on a free port."""

    process: subprocess.Popen[str]
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code, and what it said on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Server]]:
    """Start a server on bundles with more arguments; all are stopped in the end."""
    started: list[Server] = []

    def begin(*argv: object) -> Server:
        words = [sys.executable, "-m", "edgekit", "serve", *map(str, argv), "--port", "0", "--json"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(Server(process))
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, started[-1].stop()
        started[-1].said = json.loads(line)
        return started[-1]

    yield begin
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, its input declared as four samples of a sound."""
    return pack(tmp_path_factory.mktemp("served"), inputs=SOUNDS)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("served"), version="1.10.0")


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], bundle: Path, newer: Path) -> Server:
    """Two versions of one model, bodies of at most 1 MiB."""
    return start(newer, bundle, "--max-body-mib", 1, "--variant", "onnx-fp32")
