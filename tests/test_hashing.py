from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from edgekit import hashing
from edgekit.hashing import SMALL_BYTES, new_sha256


@pytest.mark.parametrize("size", [0, SMALL_BYTES, SMALL_BYTES + 1])
def test_it_is_sha256_whoever_computes_it(size: int) -> None:
    digest = new_sha256(size)
    for content in (b"", b"abc" * 1000):
        digest.update(content)
    assert digest.hexdigest() == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_python_without_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_OWN", ("no_such_module", "json"))
    assert new_sha256(1).hexdigest() == hashlib.sha256().hexdigest()


def test_importing_the_runtime_brings_little() -> None:
    """Each of these costs milliseconds or megabytes that a small model does not have."""
    code = "import sys, numpy; b = set(sys.modules); import edgekit.runtime; print(*(set(sys.modules) - b))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = set(ended.stdout.split())
    unwanted = {"hashlib", "importlib.metadata", "tempfile", "numpy.typing", "statistics", "logging", "subprocess"}
    assert not brought & unwanted
