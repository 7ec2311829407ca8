from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import main
from tests.tiny_models import pack


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        (line,) = self.stdout.splitlines()
        return json.loads(line)


@pytest.fixture
def edgekit(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process."""

    def run(*argv: object) -> Ended:
        capfd.readouterr()
        exit_code = main([str(word) for word in argv])
        return Ended(exit_code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("tiny"))
