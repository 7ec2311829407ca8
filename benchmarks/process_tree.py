"""Wall time, processor time and peak memory of a command with all of its child processes (Linux).

Memory is the sum of the processes' resident set sizes (`Rss` in /proc/PID/smaps_rollup, see proc(5)): pages of
libraries that two of them share count twice. Beside it stand the sum of their shares (`Pss`), where such a page counts
once, and less where processes outside the tree map it too, and the part that is `Anonymous`: without the pages of
mapped files (libraries, models), which the kernel can drop and read again. All are sampled every 50 ms, so shorter
peaks are missed. Processor time is user and system time of all of them (wait4(2)); unlike wall time it grows little
when the machine has other work.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

EVERY_S = 0.05
LIMIT_MIB = 8192.0  # beyond it the command is stopped: the machine has other work
MIB = 1 << 20
_SIZES = ("Rss", "Pss", "Anonymous")
_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class TookTooMuch(SystemExit):  # it ends a script like any SystemExit
    """The command took more memory than LIMIT_MIB and was stopped."""


@dataclass(frozen=True)
class Run:
    """What a command took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    shared_once_mib: float
    anonymous_mib: float
    peaks_mib: Mapping[str, float]  # while a process whose command line holds this word was there
    output: str


def run(argv: Sequence[str], *, words: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. Stops the measurement with its last words when it fails, or takes too much memory."""
    with tempfile.TemporaryFile("w+") as output:
        start = perf_counter()
        process = subprocess.Popen(
            argv, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        most, peaks = dict.fromkeys(_SIZES, 0.0), dict.fromkeys(words, 0.0)
        while (used := _end(process)) is None:
            held, lines = _look(process.pid)
            most = {name: max(most[name], held[name]) for name in _SIZES}
            taken = held["Rss"]
            if taken > LIMIT_MIB:
                _stop(process)
                raise TookTooMuch(f"{' '.join(map(str, argv))} took {taken:,.0f} MiB: stopped")
            for word in words:
                if any(word in line for line in lines):
                    peaks[word] = max(peaks[word], taken)
            sleep(EVERY_S)
        wall = perf_counter() - start
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, argv))} ended with {process.returncode}:\n{text[-3000:]}")
    return Run(wall, used.ru_utime + used.ru_stime, *(most[name] for name in _SIZES), peaks, text)


def _end(process: subprocess.Popen[str]) -> resource.struct_rusage | None:
    """What the command and the children that it waited for have used; None while it runs."""
    pid, status, used = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return used


def _stop(process: subprocess.Popen[str]) -> None:
    """End the whole tree: edgekit's workers are sessions of their own."""
    for member in list(_tree(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()


def python(*arguments: str) -> list[str]:
    """A command line for this Python."""
    return [sys.executable, *arguments]


def _look(pid: int) -> tuple[dict[str, float], list[str]]:
    """MiB of the tree in each meaning, and the command lines in it."""
    total, lines = dict.fromkeys(_SIZES, 0.0), []
    for member in _tree(pid):
        try:
            held = memory_mib(member)
            total = {name: total[name] + held[name] for name in _SIZES}
            lines.append((_PROC / str(member) / "cmdline").read_text(errors="replace"))
        except _GONE:
            continue
    return total, lines


def memory_mib(pid: int) -> dict[str, float]:
    """`Rss`, `Pss` and `Anonymous` of one process; zero when it is ending."""
    rows = (line.split() for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:])
    sizes = {row[0].rstrip(":"): int(row[1]) * 1024 / MIB for row in rows}
    return {name: sizes.get(name, 0.0) for name in _SIZES}


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
        children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except _GONE:
        return
    for child in children:
        yield from _tree(child)
