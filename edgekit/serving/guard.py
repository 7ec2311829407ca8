"""Who may ask: a token, or, without one, only who came here by this machine's own name."""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgekit.errors import ConfigError

OPEN = ("/v2/health/live", "/v2/health/ready")  # probes of an orchestrator have no token
_LEAST_CHARACTERS = 16


def read_token(path: Path) -> str:
    """One line of at least 16 printable ASCII characters. Raises ConfigError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as problem:
        raise ConfigError(f"cannot read the token {path}: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: the token is not ASCII; make one with: openssl rand -hex 32") from problem
    if len(token) < _LEAST_CHARACTERS or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: expected one line of at least {_LEAST_CHARACTERS} characters without spaces; make one with: "
            "openssl rand -hex 32"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware: 401 without the token; without one, 403 for another Host than this machine's own.

    The second keeps out a page in a browser here whose name was made to point to this address (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        """`token` of None: everybody on this machine may ask."""
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the request on."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        if self._expected is None:
            host = headers.get("host", "")
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
            if is_loopback(name.strip("[]")):
                return None
            return JSONResponse({"error": f"the Host is '{host}', expected this machine's own name"}, 403)
        given = headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self._expected):
            return None
        said = {"error": "expected the header Authorization: Bearer TOKEN, with the server's token"}
        return JSONResponse(said, 401, {"WWW-Authenticate": "Bearer"})
