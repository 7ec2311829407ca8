"""What is tried again, and how often: work that a broken link may have cut, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TypeVar

from edgekit.errors import DeviceError, LinkError, OfflineError

ATTEMPTS = 4
WAIT_S = 0.5  # before the second attempt; twice as long before each further one

Result = TypeVar("Result")


def retried(work: Callable[[], Result], *, first: Callable[[], object] = lambda: None) -> Result:
    """Work that is done again after a LinkError, a bounded number of times; `first` mends the link before each.

    After its link broke, a device that is not reached has a link that is still broken; before, it is offline.
    """
    broken: tuple[type[DeviceError], ...] = (LinkError,)
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except broken:
            broken = (LinkError, OfflineError)
            time.sleep(WAIT_S * 2 ** (attempt - 1))
            mend(first)
    return work()


def mend(first: Callable[[], object]) -> None:
    """Try to mend a link; whether that did, the work that follows shows."""
    try:
        first()
    except DeviceError:
        return


def inside(remote: str, url: str) -> str:
    """A path in the device's own folder. Raises DeviceError."""
    path = PurePosixPath(remote)
    if path.is_absolute() or ".." in path.parts:
        raise DeviceError(f"{url}: '{remote}' is outside the device's folder")
    return str(path)
