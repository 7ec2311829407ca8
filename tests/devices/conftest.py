from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices import Transport
from edgekit.devices.local import LocalTransport
from edgekit.devices.ssh import SshTransport
from tests.devices.sshd import Board, make_board, why_not
from tests.tiny_models import pack


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def running_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An sshd of this session."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    board = make_board(tmp_path_factory.mktemp("sshd"))
    board.start()
    yield board
    board.stop()


@pytest.fixture
def local_device() -> Iterator[LocalTransport]:
    transport = LocalTransport()
    yield transport
    transport.close()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """An sshd of one test, which may be cut and stopped."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    own = make_board(tmp_path)
    own.start()
    yield own
    own.stop()


@pytest.fixture(params=["local", "ssh"])
def device(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Every transport."""
    if request.param == "local":
        transport: Transport = LocalTransport()
    else:
        transport = SshTransport(request.getfixturevalue("running_board").url())
    yield transport
    transport.close()
