"""What watches over commands on a board: pushed there as one file, the standard library alone, Python 3.10 and newer.

    python3 supervisor.py run ID TIMEOUT_S OUT ERR [DONE…] -- ARGV…   start once, then tell what it says until it ends
    python3 supervisor.py kill ID                                     end it, with all that it started
    python3 supervisor.py size PATH · receive PATH OFFSET · send PATH OFFSET

A command is a child of a process of its own that outlives the connection, ends it at its deadline, and writes how it
ended. `run` with an ID that was started already goes on telling from byte OUT of its stdout and ERR of its stderr.
It speaks JSON lines; `send` and `receive` move bytes.

Every command on the board begins with a start of this file: it imports what is quick to import, and so neither pathlib,
shutil nor subprocess, which would take most of that start.
"""

from __future__ import annotations

import binascii
import errno
import json
import os
import signal
import sys
import time
from contextlib import suppress

RUNS = "runs"  # a folder for each command: stdout, stderr, pid, status.json
STREAMS = ("stdout", "stderr")
ENDED = (signal.SIGCHLD,)
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
        remove(f"{RUNS}/{done}")
    folder = f"{RUNS}/{identity}"
    os.makedirs(RUNS, exist_ok=True)
    try:
        os.mkdir(folder)
    except FileExistsError:
        pass
    else:
        sweep()
        if os.fork() == 0:
            watch(folder, float(timeout_s), words[border + 1 :])
    follow(folder, {"stdout": int(out), "stderr": int(err)})


def watch(folder: str, timeout_s: float, argv: tuple[str, ...]) -> None:
    """Run the command to its end or its deadline, away from the connection; never returns."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    start = time.monotonic()
    status: dict[str, object] = {"exit_code": None, "timed_out": False, "problem": None}
    try:
        pid = begin(argv, folder)
        write(f"{folder}/pid", str(pid))
        status["exit_code"] = wait(pid, start + timeout_s)
        status["timed_out"] = status["exit_code"] is None
        kill_group(pid)
        if status["timed_out"]:
            os.waitpid(pid, 0)
    except OSError as problem:
        status["problem"] = problem.strerror or str(problem)
    status["elapsed_s"] = time.monotonic() - start
    write(f"{folder}/status.part", json.dumps(status))
    os.replace(f"{folder}/status.part", f"{folder}/status.json")
    os._exit(0)


def begin(argv: tuple[str, ...], folder: str) -> int:
    """Start it in a session of its own, its output in files, with signals as a program expects them; its id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDED)  # they are waited for
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    outputs = [(os.POSIX_SPAWN_OPEN, 1 + n, f"{folder}/{name}", flags, 0o666) for n, name in enumerate(STREAMS)]
    ignored = [signal.SIGPIPE, signal.SIGXFSZ]  # by Python
    return os.posix_spawnp(
        argv[0], argv, os.environ, file_actions=outputs, setsid=True, setsigmask=(), setsigdef=ignored
    )


def wait(pid: int, deadline: float) -> int | None:
    """Its exit code, or less than 0 for a signal; None: it runs at its deadline. It sleeps meanwhile."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return None
        signal.sigtimedwait(ENDED, left_s)


def write(path: str, text: str) -> None:
    """A small file."""
    with open(path, "w") as stream:
        stream.write(text)


def read(path: str) -> str:
    """What `write` has written."""
    with open(path) as stream:
        return stream.read()


def follow(folder: str, offsets: dict[str, int]) -> None:
    """Tell what the command has written from the offsets on, until its status is there and all is told."""
    while True:
        ended = os.path.exists(f"{folder}/status.json")
        for name in offsets:
            tell(f"{folder}/{name}", name, offsets)
        if ended:
            say(ended=json.loads(read(f"{folder}/status.json")))
            return
        time.sleep(EVERY_S)


def tell(path: str, name: str, offsets: dict[str, int]) -> None:
    """Say what is new in one file."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as stream:
        stream.seek(offsets[name])
        while chunk := stream.read(CHUNK):
            say(**{name: binascii.b2a_base64(chunk, newline=False).decode()})
            offsets[name] += len(chunk)


def kill(identity: str) -> None:
    """End a command before its time; one that has ended is no error."""
    folder = f"{RUNS}/{identity}"
    if os.path.exists(f"{folder}/pid") and not os.path.exists(f"{folder}/status.json"):
        kill_group(int(read(f"{folder}/pid")))
    say(killed=identity)


def kill_group(pid: int) -> None:
    """End what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def sweep() -> None:
    """Remove what others have left behind long ago."""
    for run in os.listdir(RUNS):
        status = f"{RUNS}/{run}/status.json"
        if os.path.exists(status) and time.time() - os.stat(status).st_mtime > KEPT_S:
            remove(f"{RUNS}/{run}")


def remove(folder: str) -> None:
    """A run's folder, which holds files alone; one that is gone is no error."""
    with suppress(OSError):
        for name in os.listdir(folder):
            os.remove(f"{folder}/{name}")
        os.rmdir(folder)


def size(path: str) -> None:
    """Bytes of a file; 0 where there is none."""
    say(size=os.stat(path).st_size if os.path.exists(path) else 0)


def receive(path: str, offset: str) -> None:
    """Standard input into a file, from `offset` on, onto the disk itself."""
    try:
        with open(path, "r+b" if int(offset) else "wb") as stream:
            stream.seek(int(offset))
            while chunk := sys.stdin.buffer.read(CHUNK):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as problem:
        say(problem=problem.strerror or str(problem), full=problem.errno in NO_SPACE)
    else:
        say(size=os.stat(path).st_size)


def send(path: str, offset: str) -> None:
    """A file's size as a JSON line, then its bytes from `offset` on."""
    try:
        with open(path, "rb") as stream:
            say(size=os.fstat(stream.fileno()).st_size)
            stream.seek(int(offset))
            while chunk := stream.read(CHUNK):
                sys.stdout.buffer.write(chunk)
    except OSError as problem:
        say(problem=problem.strerror or str(problem))


if __name__ == "__main__":
    {each.__name__: each for each in (run, kill, size, receive, send)}[sys.argv[1]](*sys.argv[2:])
