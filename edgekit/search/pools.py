"""Who runs trials: this process, one after the other; or Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgekit.progress import Progress
from edgekit.search.subject import Subject
from edgekit.search.trials import Job, Made, run_trial


class Pool(Protocol):
    """Runs jobs in any order; each comes back once."""

    def __enter__(self) -> Pool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Made]]:
        """The jobs' results under their keys, each as soon as it is there. Raises EdgekitError."""
        ...


class LocalPool:
    """This process. `work` keeps the checkpoints of builds, so that an interrupted one goes on."""

    def __init__(self, subject: Subject, work: Path, progress: Progress) -> None:
        self._subject, self._work, self._progress = subject, work, progress

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Made]]:
        """One after the other."""
        for key, job in jobs.items():
            yield key, run_trial(self._subject, job, self._work / key, self._progress)
