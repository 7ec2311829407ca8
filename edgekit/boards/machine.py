"""A board's QEMU: started, stopped, frozen and thawed, and hurt as only a virtual one can be.

QEMU 7.2's `-cpu max` gives wrong int8 results with ai-edge-litert, so the board is a Cortex-A76 (as a Raspberry Pi 5).
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from edgekit.boards import qmp
from edgekit.boards.folders import (
    ADB_PORT,
    DISK,
    INITRD,
    KERNEL,
    KEY,
    KNOWN_HOSTS,
    PID,
    SERIAL,
    SSH_CONFIG,
    Board,
    locked,
)  # fmt: skip
from edgekit.boards.system import ADBD_PORT
from edgekit.boards.tools import QEMU, call, check_tools, free_port
from edgekit.devices import adb_client
from edgekit.devices.adb_client import AdbClient
from edgekit.devices.ssh_client import SshClient, parse_url
from edgekit.errors import ConfigError, DeviceError, DeviceTimeoutError
from edgekit.files import write_text

BOOT_S = 180.0  # it takes seven seconds on an idle machine
CPU = "cortex-a76"

_NETWORK = "n0"
_ASK_S, _SNAPSHOT_S, _LEAVE_S = 20.0, 120.0, 10.0
_EVERY_S = 0.1
_SSHD_PORT = 22
_CPUS = 2


def start(board: Board, *, snapshot: str | None = None, timeout_s: float = BOOT_S) -> None:
    """Boot it, or go on from a snapshot, until it answers at its URL. One that runs already is left as it is.

    Raises ConfigError, DeviceError when it does not come up: then no QEMU is left.
    """
    check_tools()
    if board.facts.scheme == "adb":
        adb_client.find_adb(f"board '{board.name}'")
    with locked(board):
        if board.process is None:
            _start(board, snapshot, timeout_s)


def stop(board: Board) -> None:
    """Switch it off as a board is switched off, and by force where it does not listen. One that is off stays so."""
    with locked(board):
        pid = board.process
        if pid is not None:
            with suppress(DeviceError):
                _shell(board, "sync; busybox poweroff -f", timeout_s=_LEAVE_S)
            _wait(pid, _LEAVE_S)
        _end(board)


def power_cut(board: Board) -> None:
    """Pull the plug: what the board had not brought to its disk is lost."""
    with locked(board):
        _end(board)


def snapshot(board: Board, tag: str) -> None:
    """Keep its memory and its disk under `tag`, in place of an older one. Raises DeviceError, ConfigError."""
    with locked(board):
        _must_run(board)
        _shell(board, "sync", timeout_s=_ASK_S)
        qmp.say(board.folder, f"savevm {_checked(tag)}", timeout_s=_SNAPSHOT_S)


def restore(board: Board, tag: str, *, timeout_s: float = BOOT_S) -> None:
    """Back to a snapshot, started from it where it is off; its clock is set to now. Connections to it break."""
    known = snapshots(board)
    if tag not in known:
        raise ConfigError(f"board '{board.name}' has no snapshot '{tag}'; it has: {', '.join(known) or 'none'}")
    with locked(board):
        if board.process is None:
            _start(board, tag, timeout_s)
            return
        qmp.say(board.folder, f"loadvm {tag}", timeout_s=_SNAPSHOT_S)
        _answer(board, timeout_s)


def snapshots(board: Board) -> tuple[str, ...]:
    """Their tags, the oldest first."""
    argv = ["qemu-img", "info", "--force-share", "--output=json", str(board.folder / DISK)]
    found = json.loads(call(argv, timeout_s=_ASK_S, what=f"board '{board.name}'"))
    return tuple(str(item["name"]) for item in found.get("snapshots", ()))


def set_link(board: Board, up: bool) -> None:
    """Plug its network cable in or out."""
    qmp.ask(board.folder, "set_link", timeout_s=_ASK_S, name=_NETWORK, up=up)


def _start(board: Board, tag: str | None, timeout_s: float) -> None:
    (board.folder / PID).unlink(missing_ok=True)
    forwards = _forwards(board)
    try:
        call(_argv(board, forwards, tag), cwd=board.folder, timeout_s=timeout_s, what=f"board '{board.name}'")
        _answer(board, timeout_s)
    except BaseException:
        _end(board)
        raise


def _forwards(board: Board) -> dict[int, int]:
    """Ports of this machine, which its URLs lead to -> ports of the board."""
    ssh_port = free_port()
    _write_config(board, ssh_port)
    if board.facts.scheme == "ssh":
        return {ssh_port: _SSHD_PORT}
    kept = board.folder / ADB_PORT
    adb_port = free_port(int(kept.read_text()))
    write_text(kept, f"{adb_port}\n")
    return {ssh_port: _SSHD_PORT, adb_port: ADBD_PORT}


def _argv(board: Board, forwards: Mapping[int, int], tag: str | None) -> list[str]:
    """QEMU's: it goes to the background once the machine is made. The network leads to the board alone, and from it
    nowhere."""
    folder = board.folder
    network = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards.items())
    return [
        *(QEMU, "-name", f"edgekit-board-{board.name}", "-daemonize", "-pidfile", str(folder / PID)),
        *("-M", "virt,gic-version=3", "-cpu", CPU, "-smp", str(_CPUS), "-m", str(board.facts.memory_mib)),
        *("-accel", "tcg,thread=multi,tb-size=256", "-display", "none", "-monitor", "none"),
        *("-kernel", str(folder / KERNEL), "-initrd", str(folder / INITRD), "-append", "console=ttyAMA0 quiet"),
        *("-drive", f"if=none,id=d0,format=qcow2,file={_escaped(folder / DISK)}", "-device", "virtio-blk-pci,drive=d0"),
        *("-netdev", f"user,id={_NETWORK},restrict=on{network}"),
        *("-device", f"virtio-net-pci,netdev={_NETWORK},romfile=", "-device", "virtio-rng-pci"),
        *("-serial", f"file:{folder / SERIAL}", "-qmp", f"unix:{qmp.SOCKET},server=on,wait=off"),
        *(("-loadvm", _checked(tag)) if tag else ()),
    ]


def _escaped(path: object) -> str:
    """QEMU's options are parted by commas."""
    return str(path).replace(",", ",,")


def _checked(tag: str) -> str:
    if not tag or not all(letter.isalnum() or letter in "-_." for letter in tag):
        raise ConfigError(f"a snapshot cannot be called '{tag}': letters, digits, -, _ and . alone")
    return tag


def _write_config(board: Board, port: int) -> None:
    folder = board.folder
    (folder / SSH_CONFIG).write_text(
        f"Host {board.name}\n HostName 127.0.0.1\n Port {port}\n User root\n HostKeyAlias {board.name}\n"
        f' IdentityFile "{folder / KEY}"\n IdentitiesOnly yes\n UserKnownHostsFile "{folder / KNOWN_HOSTS}"\n'
        " GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n"
    )


def _answer(board: Board, timeout_s: float) -> None:
    """Wait until it takes a command over ssh, and is there for adb; set its clock, which stood still in a snapshot."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _shell(board, f"date -u -s @{time.time():.3f} > /dev/null", timeout_s=_ASK_S)
            if board.facts.scheme == "adb":
                AdbClient(adb_client.parse_url(board.url)).reconnect()  # or adb holds on to a connection of before
        except DeviceError as problem:
            _must_run(board)
            if time.monotonic() > deadline:
                raise DeviceTimeoutError(
                    f"board '{board.name}' did not answer within {timeout_s:g} s: {problem}; its last words: "
                    f"{board.last_words()}"
                ) from problem
            time.sleep(_EVERY_S)
        else:
            return


def _must_run(board: Board) -> None:
    state = board.state
    if state == "died":
        raise DeviceError(
            f"board '{board.name}' died: its QEMU ended; its last words: {board.last_words()}; "
            f"edgekit board start {board.name}"
        )
    if state == "stopped":
        raise DeviceError(f"board '{board.name}' is not running: edgekit board start {board.name}")


def _shell(board: Board, line: str, *, timeout_s: float) -> None:
    client = SshClient(parse_url(board.ssh_url))
    try:
        client.shell(line, b"", timeout_s=timeout_s)
    finally:
        client.close()


def _end(board: Board) -> None:
    """No QEMU is left, and nothing that says there is one. Raises DeviceError when it cannot be ended."""
    pid = board.process
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not _wait(pid, _LEAVE_S):
            raise DeviceError(f"board '{board.name}': process {pid} does not end")
    for trace in (PID, qmp.SOCKET):
        (board.folder / trace).unlink(missing_ok=True)


def _wait(pid: int, timeout_s: float) -> bool:
    """Whether a process ends in time with all its threads: while one is left, its ports and files are still taken."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)
