"""Wall time and peak memory of a command with all of its child processes (Linux).

Memory is the sum of the processes' proportional set sizes (`Pss` in /proc/PID/smaps_rollup, see proc(5)): a page that
several of them share counts once. It is sampled every 50 ms, so a shorter peak is missed.
"""

from __future__ import annotations

import os
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
_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@dataclass(frozen=True)
class Run:
    """What a command took."""

    wall_s: float
    peak_mib: float
    peaks_mib: Mapping[str, float]  # while a process whose command line holds this word was there
    output: str


def run(argv: Sequence[str], *, words: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. Stops the measurement with its last words when it fails."""
    with tempfile.TemporaryFile("w+") as output:
        start = perf_counter()
        process = subprocess.Popen(
            argv, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        peak, peaks = 0.0, dict.fromkeys(words, 0.0)
        while process.poll() is None:
            taken, lines = _look(process.pid)
            peak = max(peak, taken)
            if taken > LIMIT_MIB:
                _stop(process)
                raise SystemExit(f"{' '.join(map(str, argv))} took {taken:,.0f} MiB: stopped")
            for word in words:
                if any(word in line for line in lines):
                    peaks[word] = max(peaks[word], taken)
            sleep(EVERY_S)
        wall = perf_counter() - start
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, argv))} ended with {process.returncode}:\n{text[-3000:]}")
    return Run(wall, peak, peaks, text)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the whole tree: edgekit's workers are sessions of their own."""
    for member in list(_tree(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()


def python(*arguments: str) -> list[str]:
    """A command line for this Python."""
    return [sys.executable, *arguments]


def _look(pid: int) -> tuple[float, list[str]]:
    """MiB of the tree, and the command lines in it."""
    total, lines = 0.0, []
    for member in _tree(pid):
        try:
            total += pss_mib(member)
            lines.append((_PROC / str(member) / "cmdline").read_text(errors="replace"))
        except _GONE:
            continue
    return total, lines


def pss_mib(pid: int) -> float:
    """The proportional set size of one process."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / MIB
    return 0.0  # it is ending: its memory is gone


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
        children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except _GONE:
        return
    for child in children:
        yield from _tree(child)
