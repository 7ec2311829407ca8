"""An ordinary build in a process of its own: names that Keras and TensorFlow give depend on what a process made before,
and reach the bytes of a file. In a fresh process a finalist is made as `edgekit build` makes it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from edgekit.errors import ConversionError
from edgekit.pipeline import Build, build_project
from edgekit.progress import Progress
from edgekit.project import Project
from edgekit.quiet import quiet_tensorflow
from edgekit.report import BuildReport

_LOOK_EVERY_S = 0.5


def build_apart(
    project: Project, work: Path, *, allow_code: bool, progress: Progress
) -> tuple[BuildReport, list[Path]]:
    """Build into `work`, going on with what an interrupted build left there; the report, and the files that it made,
    the bundle first.

    Raises EdgekitError as `build_project`; ConversionError when the process dies.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:
            return pool.submit(_build, project, work, allow_code, progress).result()
        except BrokenProcessPool as problem:
            raise ConversionError(f"the build of a finalist died; is there enough memory? ({problem})") from problem


def _begin(parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    quiet_tensorflow()


def _end_with(parent: int) -> None:
    """A search that is killed takes its builds along: another one may go on in the same folder."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _build(project: Project, work: Path, allow_code: bool, progress: Progress) -> tuple[BuildReport, list[Path]]:
    made: Build = build_project(project, work, resume=True, allow_code=allow_code, progress=progress)
    return made.report, [made.bundle, made.model, made.report_html, made.report_json]
