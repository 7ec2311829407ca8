"""Damaged ONNX files: each is read, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

from tests.conftest import TorchDigits
from tests.converters.onnx_fuzz import CONTRADICTIONS, READERS
from tests.converters.test_onnx_outside import model
from tests.converters.tflite_fuzz import FLIPS, TRUNCATIONS

PROGRAM = Path(__file__).with_name("onnx_fuzz.py")


def fuzz(file: Path, folder: Path) -> Counter[str]:
    """How often each word came first in how a try ended; every try must have ended, and none escaped."""
    argv = [sys.executable, str(PROGRAM), str(file), str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (ended[-1:], done.stderr[-2000:])
    assert len(ended) == (TRUNCATIONS + FLIPS + CONTRADICTIONS) * len(READERS)
    assert [one for one in ended if one["ended"].startswith("escaped")] == []
    return Counter(one["ended"].split(":")[0] for one in ended)


def test_nothing_but_a_refusal_comes_out_of_the_readers(tmp_path: Path) -> None:
    path = tmp_path / "given.onnx"
    onnx.save(model(), str(path))
    found = fuzz(path, tmp_path)
    assert found["refused"] > 1000
    assert found["fine"] > 100


@pytest.mark.slow
def test_damage_to_a_network(torch_digits: TorchDigits, tmp_path: Path) -> None:
    assert fuzz(torch_digits.model, tmp_path)["refused"] > 1000
