"""Progress of a worker process, told through a file of JSON lines to the process that shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any  # Any: JSON

from edgekit.progress import Advance, Progress

_WRITE_EVERY_S = 0.2


class FileProgress:
    """The worker's side."""

    def __init__(self, path: Path) -> None:
        """Append to the file at `path`."""
        self._path = path

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Write a line for the task, and for its advance a few times a second."""
        self._write({"task": description, "total": total})
        waiting, last, latest = 0, 0.0, ""

        def advance(units: int, words: str) -> None:
            nonlocal waiting, last, latest
            waiting, latest = waiting + units, words
            if time.monotonic() - last >= _WRITE_EVERY_S:
                self._write({"units": waiting, "words": words})
                waiting, last = 0, time.monotonic()

        yield advance
        self._write({"units": waiting, "words": latest})

    def _write(self, line: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


class Reports:
    """The reading side: hands on what the file says so far."""

    def __init__(self, path: Path, progress: Progress) -> None:
        """The file need not be there yet."""
        self._path, self._progress, self._position = path, progress, 0
        self._task = ExitStack()
        self._advance: Advance | None = None

    def __enter__(self) -> Reports:
        return self

    def update(self) -> None:
        """Hand on every whole line that is new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            self._hand_on(json.loads(line))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.__exit__(kind, problem, trace)

    def _hand_on(self, line: dict[str, Any]) -> None:
        if "task" in line:
            self._task.close()
            self._advance = self._task.enter_context(self._progress.task(line["task"], line["total"]))
        elif self._advance is not None:
            self._advance(line["units"], line["words"])
