from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgekit.devices import Transport
from edgekit.devices.adb import AdbTransport
from edgekit.devices.local import LocalTransport
from edgekit.devices.ssh import SshTransport
from tests.devices import adbd
from tests.devices import phone as phones
from tests.devices.phone import Phone, adb_server, make_phone
from tests.devices.sshd import Board, served
from tests.tiny_models import pack


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def running_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An sshd of this session."""
    with served(tmp_path_factory.mktemp("sshd")) as board:
        yield board


@pytest.fixture
def local_device() -> Iterator[LocalTransport]:
    transport = LocalTransport()
    yield transport
    transport.close()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """An sshd of one test, which may be cut and stopped."""
    with served(tmp_path) as own:
        yield own


@pytest.fixture(scope="session")
def running_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """An adbd of this session, and an adb server that knows it alone."""
    reason = phones.why_not()
    if reason is not None:
        pytest.skip(reason)
    own = make_phone(tmp_path_factory.mktemp("phone"))
    with adb_server(tmp_path_factory.mktemp("adb")):
        own.start()
        yield own
        own.stop()


@pytest.fixture(scope="session")
def native_cache() -> Iterator[Path]:
    """Where the native runner stays from session to session; without its compiler, tests that need it skip."""
    if find_spec("ziglang") is None:
        pytest.skip('no ziglang here: pip install "edgekit[native]"')
    with pytest.MonkeyPatch.context() as patch:
        folder = adbd.CACHE.with_name("edgekit")
        patch.setenv("EDGEKIT_CACHE", str(folder))
        yield folder


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    """An adbd of one test, which may be cut and stopped, and an adb server of its own."""
    reason = phones.why_not()
    if reason is not None:
        pytest.skip(reason)
    own = make_phone(tmp_path / "phone")
    with adb_server(tmp_path):
        own.start()
        yield own
        own.stop()


@pytest.fixture(params=["local", "ssh", "adb"])
def device(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Every transport."""
    if request.param == "local":
        transport: Transport = LocalTransport()
    elif request.param == "ssh":
        transport = SshTransport(request.getfixturevalue("running_board").url())
    else:
        transport = AdbTransport(request.getfixturevalue("running_phone").url())
    yield transport
    transport.close()
