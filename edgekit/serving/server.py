"""A socket, and uvicorn behind it until somebody stops it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from edgekit.errors import ConfigError
from edgekit.serving.app import Limits, make_app
from edgekit.serving.guard import is_loopback
from edgekit.serving.models import Models

GRACE_S = 30  # for requests that are under way when somebody stops it
MOST_CONNECTIONS = 512
_LAST_PORT = (1 << 16) - 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Address:
    """Where it listens; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= _LAST_PORT:
            raise ConfigError(f"port is {self.port}, expected 0 to {_LAST_PORT}")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"host is '{self.host}', which other machines reach: give --token-file, or leave --host out for this "
                "machine alone"
            )


def serve(models: Models, address: Address, limits: Limits, ready: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM; then finish what is under way and return.

    `ready` is told the server's address once it listens. Raises ConfigError when the port cannot be had.
    """
    app = make_app(models, token=address.token, limits=limits)
    config = uvicorn.Config(
        app, log_config=None, http="h11", loop="asyncio", ws="none", lifespan="off", server_header=False,
        proxy_headers=False, limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    with listening(address) as listener, _stopped_quietly():
        host, port = listener.getsockname()[:2]
        ready(f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A socket whose connections answer at once. Raises ConfigError when the port cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as problem:
        reason = problem.strerror or problem
        raise ConfigError(
            f"cannot listen on {address.host}:{address.port}: {reason}; choose another --port or --host"
        ) from problem
    with listener:
        # Connections take it over. asyncio does it for sockets whose protocol is stated, which this one's is not;
        # without it an answer waits for the client's delayed acknowledgement of its head: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


@contextmanager
def _stopped_quietly() -> Iterator[None]:
    """uvicorn ends by raising the signal that stopped it once more, for handlers from before: here nothing."""
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
