"""Work side by side within a memory bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class Admission:
    """Lets work begin while the estimates of all that is under way stay within `limit_bytes`.

    Work that is estimated above the limit goes on alone.
    """

    def __init__(self, limit_bytes: float) -> None:
        self._limit = limit_bytes
        self._admitted = 0
        self._changed = Condition()

    @contextmanager
    def admit(self, cost_bytes: int) -> Iterator[None]:
        """Wait until there is room for `cost_bytes`, and hold it while the body runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self._admitted or self._admitted + cost_bytes <= self._limit)
            self._admitted += cost_bytes
        try:
            yield
        finally:
            with self._changed:
                self._admitted -= cost_bytes
                self._changed.notify_all()


def available_bytes() -> int:
    """Memory that new processes may take: what the machine has free, or less where a container is limited."""
    free = _free_bytes()
    limit, used = (_read(_CGROUP / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def _free_bytes() -> int:
    if _MEMINFO.exists():
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _read(path: Path) -> int | None:
    """The number in a file; None for "max", and where there is no such file."""
    if not path.exists():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None
