"""What watches over commands on a board: pushed there as one file, the standard library alone, Python 3.10 and newer.

    python3 supervisor.py run ID TIMEOUT_S OUT ERR [DONE…] -- ARGV…   start once, then tell what it says until it ends
    python3 supervisor.py kill ID                                     end it, with all that it started
    python3 supervisor.py size PATH · receive PATH OFFSET · send PATH OFFSET

A command is a child of a process of its own that outlives the connection, ends it at its deadline, and writes how it
ended. `run` with an ID that was started already goes on telling from byte OUT of its stdout and ERR of its stderr.
It speaks JSON lines; `send` and `receive` move bytes.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

RUNS = "runs"  # a folder for each command: out, err, pid, status.json
EVERY_S = 0.02
CHUNK = 1 << 16
KEPT_S = 3600.0  # what a client that never came back leaves
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def say(**event: object) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def run(identity: str, timeout_s: str, out: str, err: str, *words: str) -> None:
    """Start it, unless it was, and tell until it ends; earlier runs whose results were fetched are removed."""
    border = words.index("--")
    for done in words[:border]:
        shutil.rmtree(Path(RUNS, done), ignore_errors=True)
    folder = Path(RUNS, identity)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        pass
    else:
        sweep()
        if os.fork() == 0:
            watch(folder, float(timeout_s), words[border + 1 :])
    follow(folder, {"stdout": int(out), "stderr": int(err)})


def watch(folder: Path, timeout_s: float, argv: tuple[str, ...]) -> None:
    """Run the command to its end or its deadline, away from the connection; never returns."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    start = time.monotonic()
    status: dict[str, object] = {"exit_code": None, "timed_out": False, "problem": None}
    try:
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(argv, stdin=nowhere, stdout=out, stderr=err, start_new_session=True)
        (folder / "pid").write_text(str(process.pid))
        try:
            status["exit_code"] = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status["timed_out"] = True
        kill_group(process.pid)
        process.wait()
    except OSError as problem:
        status["problem"] = problem.strerror or str(problem)
    status["elapsed_s"] = time.monotonic() - start
    written = folder / "status.part"
    written.write_text(json.dumps(status))
    written.replace(folder / "status.json")
    os._exit(0)


def follow(folder: Path, offsets: dict[str, int]) -> None:
    """Tell what the command has written from the offsets on, until its status is there and all is told."""
    while True:
        ended = (folder / "status.json").exists()
        for name in offsets:
            tell(folder / name, name, offsets)
        if ended:
            say(ended=json.loads((folder / "status.json").read_text()))
            return
        time.sleep(EVERY_S)


def tell(path: Path, name: str, offsets: dict[str, int]) -> None:
    """Say what is new in one file."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        stream.seek(offsets[name])
        while chunk := stream.read(CHUNK):
            say(**{name: base64.b64encode(chunk).decode()})
            offsets[name] += len(chunk)


def kill(identity: str) -> None:
    """End a command before its time; one that has ended is no error."""
    pid = Path(RUNS, identity, "pid")
    if pid.exists() and not Path(RUNS, identity, "status.json").exists():
        kill_group(int(pid.read_text()))
    say(killed=identity)


def kill_group(pid: int) -> None:
    """End what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def sweep() -> None:
    """Remove what others have left behind long ago."""
    for status in Path(RUNS).glob("*/status.json"):
        if time.time() - status.stat().st_mtime > KEPT_S:
            shutil.rmtree(status.parent, ignore_errors=True)


def size(path: str) -> None:
    """Bytes of a file; 0 where there is none."""
    say(size=Path(path).stat().st_size if Path(path).exists() else 0)


def receive(path: str, offset: str) -> None:
    """Standard input into a file, from `offset` on, onto the disk itself."""
    try:
        with Path(path).open("r+b" if int(offset) else "wb") as stream:
            stream.seek(int(offset))
            shutil.copyfileobj(sys.stdin.buffer, stream, CHUNK)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as problem:
        say(problem=problem.strerror or str(problem), full=problem.errno in NO_SPACE)
    else:
        say(size=Path(path).stat().st_size)


def send(path: str, offset: str) -> None:
    """A file's size as a JSON line, then its bytes from `offset` on."""
    try:
        with Path(path).open("rb") as stream:
            say(size=os.fstat(stream.fileno()).st_size)
            stream.seek(int(offset))
            shutil.copyfileobj(stream, sys.stdout.buffer, CHUNK)
    except OSError as problem:
        say(problem=problem.strerror or str(problem))


if __name__ == "__main__":
    {each.__name__: each for each in (run, kill, size, receive, send)}[sys.argv[1]](*sys.argv[2:])
