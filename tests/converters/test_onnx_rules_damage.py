"""Damaged ONNX files: each is read, or refused in one line; what crashes, crashes in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from edgekit_onnx.lint_worker import findings

from tests.converters.onnx_rules_fuzz import ALL, damaged
from tests.converters.test_onnx_rules import conv
from tests.onnx_graphs import convolution, saved

PROGRAM = Path(__file__).with_name("onnx_rules_fuzz.py")
NEEDS_RTX = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')


def fuzz(file: Path, folder: Path, kinds: str, count: int | None = None) -> Counter[str]:
    """How often each word came first in how a try ended; every try must have ended, and none escaped."""
    argv = [sys.executable, str(PROGRAM), str(file), str(folder), kinds, *([] if count is None else [str(count)])]
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=6000, env=environment)
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (ended[-1:], done.stderr[-2000:])
    assert len(ended) == (ALL if count is None else count) * len(kinds.split(","))
    assert [one for one in ended if one["ended"].startswith("escaped")] == []
    return Counter(one["ended"].split(":")[0] for one in ended)


def test_the_rules_survive(tmp_path: Path) -> None:
    """In this process, so that all of them are tried: a crash would end the tests."""
    rules = Counter[str]()
    for _, content in damaged(saved(conv(), tmp_path / "given.onnx").read_bytes()):
        (tmp_path / "x.onnx").write_bytes(content)
        found = findings(tmp_path / "x.onnx")
        rules[found[0].rule if found else "fine"] += 1
    assert rules["valid-onnx"] > 300
    assert rules["fine"] > 100
    assert len(rules) > 5


@NEEDS_RTX
def test_the_linter_and_the_builder_survive(tmp_path: Path) -> None:
    found = fuzz(convolution(tmp_path / "given.onnx"), tmp_path, "lint,build", 6)
    assert found["refused"] > 0


@pytest.mark.slow
@NEEDS_RTX
def test_damage_put_before_tensorrt(tmp_path: Path) -> None:
    assert fuzz(saved(conv(), tmp_path / "given.onnx"), tmp_path, "lint,build")["refused"] > 300
