from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices.local import LocalTransport
from tests.tiny_models import pack


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def device() -> Iterator[LocalTransport]:
    transport = LocalTransport()
    yield transport
    transport.close()
