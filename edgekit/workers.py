"""Run a function in a fresh Python process: a crash, a hang or a changed environment stays there.

A worker module ends with `if __name__ == "__main__": workers.serve(function)`; `function` takes the request
(a JSON object) and returns the reply (a JSON object).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit import errors
from edgekit.errors import EdgekitError

log = logging.getLogger(__name__)

_STDERR_LINES = 20
_POLL_S = 0.2  # between looks at how far a worker is
_PROGRESS = "progress"
_running: set[subprocess.Popen[str]] = set()


def call(
    module: str,
    request: Mapping[str, object],
    *,
    timeout_s: float,
    what: str,
    error: type[EdgekitError],
    environment: Mapping[str, str] | None = None,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """Run `python -m module` on `request` and return its reply.

    An EdgekitError raised there is raised here under its own type. A crash, a timeout or any other exception
    becomes `error`, with the last lines that the process wrote; `what` names the work in that message. `progress` is
    called with the fraction that the worker says with `advance`, whenever it grew.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-worker-") as folder:
        request_path, reply_path = Path(folder, "request.json"), Path(folder, "reply.json")
        request_path.write_text(json.dumps(request))
        argv = [sys.executable, "-m", module, str(request_path), str(reply_path)]
        process = subprocess.Popen(
            argv, env={**os.environ, **_importable(), **(environment or {})}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        output = _wait(process, timeout_s, what, error, _Watch(Path(folder, _PROGRESS), progress))
        if not reply_path.exists():
            raise error(f"{what}: {_ending(process.returncode)}; its last words: {_last_lines(output)}")
        log.debug("%s said: %s", module, output)
        return _read_reply(reply_path, error)


def serve(function: Callable[[dict[str, Any]], Mapping[str, object]]) -> None:
    """The worker's side of `call`: read the request, run `function`, write the reply."""
    request_path, reply_path = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        reply = {"reply": function(json.loads(request_path.read_text()))}
    except EdgekitError as problem:
        reply = {"error": {"type": type(problem).__name__, "message": str(problem)}}
    partial = reply_path.with_suffix(".partial")
    partial.write_text(json.dumps(reply))
    partial.replace(reply_path)


def advance(fraction: float) -> None:
    """The worker's side of `progress`: say how much of the work is done, from 0 to 1."""
    told = Path(sys.argv[2]).with_name(_PROGRESS)
    partial = told.with_suffix(".partial")
    with suppress(OSError):  # a full disk is no reason to stop the work here
        partial.write_text(str(fraction))
        partial.replace(told)


def stop_all() -> None:
    """Kill every worker of this process, so that an interrupted user does not wait for them."""
    for process in tuple(_running):
        _kill(process)


class _Watch:
    """Hands on what a worker says of its progress."""

    def __init__(self, told: Path, progress: Callable[[float], object] | None) -> None:
        self._told, self._progress, self._last = told, progress, 0.0

    def look(self) -> None:
        if self._progress is None or not self._told.exists():
            return
        fraction = float(self._told.read_text())
        if fraction > self._last:
            self._last = fraction
            self._progress(fraction)


def _wait(process: subprocess.Popen[str], timeout_s: float, what: str, error: type[EdgekitError], watch: _Watch) -> str:
    _running.add(process)
    deadline_s = time.monotonic() + timeout_s
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                output = process.communicate(timeout=max(0.0, min(_POLL_S, deadline_s - time.monotonic())))[0]
                watch.look()
                return output
            if time.monotonic() >= deadline_s:
                raise error(f"{what}: not done after {timeout_s:.0f} s")
            watch.look()
    finally:
        _running.discard(process)
        if process.poll() is None:
            _kill(process)
            process.communicate()


def _importable() -> dict[str, str]:
    """Where a worker finds edgekit when this process has it from a zipapp, which is on nobody else's path."""
    home = Path(__file__).parents[1]
    if home.is_dir():
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(home.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_reply(path: Path, error: type[EdgekitError]) -> dict[str, Any]:
    message = json.loads(path.read_text())
    if "error" in message:
        kind = getattr(errors, message["error"]["type"], error)
        raise kind(message["error"]["message"])
    reply: dict[str, Any] = message["reply"]
    return reply


def _ending(code: int) -> str:
    return f"the process died of {signal.Signals(-code).name}" if code < 0 else f"the process exited with {code}"


def _last_lines(output: str) -> str:
    return " | ".join(line.strip() for line in output.splitlines()[-_STDERR_LINES:] if line.strip()) or "none"
