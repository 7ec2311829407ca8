"""How long work reports on itself. The library prints nothing: the command line hands in what shows it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

log = logging.getLogger(__name__)

Advance = Callable[[int, str], None]  # how many units more, and a few words on the state ("loss 0.12")


class Progress(Protocol):
    """Shows tasks."""

    def task(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """Announce a task of `total` units; the context gives the function that advances it."""
        ...


class LoggedProgress:
    """Progress for library use: one log line at the start of each task."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Log the task's name."""
        log.info("%s (%d)", description, total)
        yield lambda _units, _words: None
