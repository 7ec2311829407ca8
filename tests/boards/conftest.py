from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import boards
from edgekit.boards import Board
from edgekit.devices.ssh import SshTransport
from tests.boards.keeping import FRESH, borrow, kept, why_not
from tests.tiny_models import pack, parts


@pytest.fixture(scope="session")
def kept_board() -> Iterator[Path]:
    """See `tests.boards.keeping.kept`; nobody else makes one meanwhile."""
    reason = why_not("ssh")
    if reason is not None:
        pytest.skip(reason)
    with kept("ssh") as folder:
        yield folder


@pytest.fixture(scope="session")
def session_board(kept_board: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = borrow(kept_board, tmp_path_factory.mktemp("boards"))
    yield board
    boards.power_cut(board)


@pytest.fixture
def board(session_board: Board) -> Board:
    """A board that runs; a test that leaves it in pieces takes it back with `restore`."""
    if session_board.state != "running":
        boards.restore(session_board, FRESH)
    return session_board


@pytest.fixture
def device(board: Board) -> Iterator[SshTransport]:
    transport = SshTransport(board.url)
    yield transport
    transport.close()


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of one model: int8 alone, and with the float variant beside it."""
    _, int8, _ = parts()
    return [pack(tmp_path_factory.mktemp("versions"), some) for some in ((int8,), parts()[:2])]
