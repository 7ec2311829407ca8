from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.runtime import engine_tensorrt
from tests.runtime.fake_board import Board
from tests.runtime.fake_tensorrt import VERSION
from tests.tiny_models import pack


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFLite fp32 and int8 and ONNX fp32 of one fully connected layer."""
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def open_tiny(tiny_bundle: Path) -> Iterator[Bundle]:
    with Bundle.open(tiny_bundle) as bundle:
        yield bundle


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Board:
    made = Board()
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorrt", made.trt)
    found = {"tensorrt": ("tensorrt", VERSION)}
    monkeypatch.setattr(engine_tensorrt, "installed_version", lambda module, names: found.get(module))
    monkeypatch.setattr(engine_tensorrt, "find_package", lambda: "tensorrt")
    monkeypatch.setattr(engine_tensorrt, "open_cuda", made.open_cuda)
    monkeypatch.setattr(engine_tensorrt, "build_engine", lambda: made.builder)
    return made
