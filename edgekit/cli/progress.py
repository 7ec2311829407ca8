"""How the command line shows long work: bars on a terminal, a plain line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.progress import Advance, Progress

_LINE_EVERY_S = 5.0


def shown_progress() -> Progress:
    """What fits where stderr goes."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class BarProgress:
    """A rich progress bar for each task."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show the bar until the task ends."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        with Bars(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(description, total=total, words="")
            yield lambda units, words: bars.update(bar, advance=units, words=words)


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


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
