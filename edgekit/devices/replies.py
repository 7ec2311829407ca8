"""The JSON lines of the runtime on a device, whether it is Python's or the native runner's."""

from __future__ import annotations

import json
from typing import Any  # Any: JSON

from edgekit import errors
from edgekit.devices.transport import CommandResult, Heard, describe_failure
from edgekit.errors import DeviceCrashError, DeviceError, EdgekitError


def spoken(listener: Heard) -> Heard:
    """Of the lines that a runtime prints, those for people: how far it is, and what its engine says."""

    def heard(line: str) -> None:
        event = _event(line)
        if event is None:
            listener(line)
        elif event["event"] == "progress":
            listener(str(event.get("message")))

    return heard


def read_reply(result: CommandResult, url: str) -> dict[str, Any]:
    """The answer in the runtime's JSON lines.

    Raises the error that it reports, or DeviceCrashError when it ended without an answer.
    """
    events = [event for line in result.stdout.splitlines() if (event := _event(line)) is not None]
    last = events[-1] if events else {}
    kind = last.pop("event", None)
    if kind == "error":
        raise _error_type(str(last.get("type")))(str(last.get("message")))
    if kind != "result" or result.exit_code != 0:
        raise DeviceCrashError(describe_failure(result, url))
    return last


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _error_type(name: str) -> type[EdgekitError]:
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, EdgekitError) else DeviceError
