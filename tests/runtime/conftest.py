from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from tests.tiny_models import pack


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFLite fp32 and int8 and ONNX fp32 of one fully connected layer."""
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def open_tiny(tiny_bundle: Path) -> Iterator[Bundle]:
    with Bundle.open(tiny_bundle) as bundle:
        yield bundle
