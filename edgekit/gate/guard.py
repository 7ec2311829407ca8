"""A device that slows down to cool itself is waited for, and what it said meanwhile is not used."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekit.devices.conditions import Condition, throttled
from edgekit.errors import EdgekitError

COOL_S = 600.0  # in all, over a session
_EVERY_S = 5.0


class TooHotError(EdgekitError):
    """The device did not cool down within the time that it gets; nothing is broken."""

    exit_code = 3


class Guard:
    """Watches one device over a session of measurements."""

    def __init__(
        self,
        read: Callable[[], Condition],
        *,
        cool_s: float = COOL_S,
        sleep: Callable[[float], object] = time.sleep,
        progress: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._read, self._left_s, self._sleep, self._progress = read, cool_s, sleep, progress
        self.start = read()  # what later conditions are held against

    def wait_until_cool(self) -> Condition:
        """The condition to begin with. Raises TooHotError when the session's time for cooling is used up."""
        while (reason := throttled(now := self._read(), self.start)) is not None:
            if self._left_s <= 0:
                raise TooHotError(f"the device stays throttled ({reason}): cool it, or give it more time")
            self._progress(f"{reason}: cooling down, {self._left_s:.0f} s at most")
            self._sleep(_EVERY_S)
            self._left_s -= _EVERY_S
        return now

    def trouble_since(self) -> tuple[Condition, str | None]:
        """The condition now, and why what was just measured does not count, or None."""
        now = self._read()
        return now, throttled(now, self.start)
