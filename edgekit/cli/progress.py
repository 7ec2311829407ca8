"""How the command line shows long work: bars on a terminal, a plain line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit.progress import Advance, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from edgekit.devices.transport import Heard, Transport

_LINE_EVERY_S = 5.0


def shown_progress() -> Progress:
    """What fits where stderr goes."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def show(device: Transport) -> None:
    """What takes long there, and what programs print there while they run."""
    device.progress = shown_progress()
    device.listener = shown_lines(device.url)


def shown_lines(url: str) -> Heard:
    """For lines from a device; rich lets them through above its bars."""
    from edgekit.devices.transport import line_of

    return lambda line: _print(line_of(url, line))


class BarProgress:
    """A rich progress bar for each task; tasks of several threads have theirs side by side."""

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), 0
        self._bars: Bars | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show the bar until the task ends."""
        bars = self._shown()
        bar = bars.add_task(description, total=total, words="")
        try:
            yield lambda units, words: bars.update(bar, advance=units, words=words)
        finally:
            self._done(bars)

    def _shown(self) -> Bars:
        """A terminal shows one display at a time: the first task opens it."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
            self._open += 1
            return self._bars

    def _done(self, bars: Bars) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._bars = None
                bars.stop()


class LineProgress:
    """Lines for logs: at the start, at the end, and at most one every few seconds between."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Print the task's lines."""
        started = last = time.monotonic()
        done = 0

        def advance(units: int, words: str) -> None:
            nonlocal done, last
            done += units
            now = time.monotonic()
            if now - last >= _LINE_EVERY_S and done < total:
                last = now
                _print(f"{description}: {done}/{total} {words}".rstrip())

        _print(f"{description} …")
        yield advance
        _print(f"{description}: done in {time.monotonic() - started:.1f} s")


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
