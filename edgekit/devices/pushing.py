"""Push by content: the remote path carries the sha256, and only a verified file ever has that path."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgekit.devices.transport import CommandResult, Transport, checked, describe_failure
from edgekit.errors import DeviceError, DeviceFullError
from edgekit.files import sha256_file

FOLDER = "edgekit"

_TIMEOUT_S = 60.0
_SHOWN_BYTES = 1 << 20
_KEPT_S = 3600  # what a session that never came back leaves; without Python, supervisor.sh sees to it
_PYTHON_SHA256 = """
import hashlib, os, sys
def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
"""
# Each runs as `python -S -c CODE ARGUMENT…` on the device, which may lack sha256sum; -S: without installed packages.
_PYTHON: Mapping[str, str] = {
    "prepare": f"""
{_PYTHON_SHA256}
import contextlib, time
for folder, _, names in os.walk("{FOLDER}"):  # what dead sessions left
    for part in (os.path.join(folder, name) for name in names if name.endswith(".part")):
        with contextlib.suppress(FileNotFoundError):  # another session sweeps, too
            if time.time() - os.path.getmtime(part) > {_KEPT_S}:
                os.remove(part)
for path in sys.argv[1:]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        print(sha256(path), "", path)
""",
    "settle": f"""
{_PYTHON_SHA256}
def to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
temporary, final, expected = sys.argv[1:]
arrived = sha256(temporary)
print(arrived)
if arrived == expected:
    os.chmod(temporary, 0o755)  # it may be a program
    to_disk(temporary)  # or a power cut leaves the name without the bytes
    os.replace(temporary, final)
    to_disk(os.path.dirname(final) or ".")
else:
    os.remove(temporary)
""",
    "remove": "import os, sys; [os.remove(name) for name in sys.argv[1:] if os.path.exists(name)]",
    "sha256": f"""
{_PYTHON_SHA256}
for path in filter(os.path.exists, sys.argv[1:]):
    print(sha256(path), "", path)
""",
}
# And as `sh -c CODE sh ARGUMENT…` on one without Python. toybox has fsync; sync with a file is coreutils'.
_SHELL: Mapping[str, str] = {
    "prepare": """
for path in "$@"; do
    mkdir -p "${path%/*}" || exit 1
    if [ -e "$path" ]; then sha256sum "$path"; fi
done
""",
    "settle": """
to_disk() { fsync "$1" 2> /dev/null || sync "$1"; }
arrived=$(sha256sum "$1") && arrived=${arrived%% *} && echo "$arrived" || exit 1
if [ "$arrived" != "$3" ]; then rm -f "$1"; exit 0; fi
chmod 755 "$1" && to_disk "$1" && mv -f "$1" "$2" && to_disk "${2%/*}"
""",
    "remove": 'rm -f "$@"',
    "sha256": 'for path in "$@"; do if [ -e "$path" ]; then sha256sum "$path"; fi; done',
}


def push_by_content(device: Transport, local: Path) -> str:
    """Bring a file to the device unless its very bytes are there; returns its remote path, FOLDER/SHA256/NAME.

    It arrives under a temporary name and is renamed when its hash there is right. Raises DeviceError.
    """
    return push_all(device, [local])[0]


def push_all(device: Transport, files: Sequence[Path]) -> list[str]:
    """`push_by_content` of several files; what is there already costs one question."""
    wanted = [(file, sha256_file(file)) for file in files]
    remotes = [f"{FOLDER}/{sha256}/{file.name}" for file, sha256 in wanted]
    there = _sha256s(device, "prepare", remotes)
    missing = [(*want, remote) for want, remote in zip(wanted, remotes, strict=True) if there.get(remote) != want[1]]
    for file, sha256, remote in missing:
        _push(device, file, remote, sha256)
    return remotes


def push_once(device: Transport, local: Path) -> str:
    """Bring a file for one command, under a name that no other has, in FOLDER, which is there; the caller removes it.

    Its hash is not asked for: what reads it there notices bytes that are not. Raises DeviceError.
    """
    remote = f"{FOLDER}/{local.name}-{secrets.token_hex(8)}.part"  # one that is left behind is swept
    _send(device, local, remote)
    return remote


def _push(device: Transport, local: Path, remote: str, sha256: str) -> None:
    temporary = f"{remote}.{secrets.token_hex(4)}.part"
    _send(device, local, temporary)
    arrived = _there(device, "settle", temporary, remote, sha256).stdout.strip()
    if arrived != sha256:
        raise DeviceError(f"{device.url} {local.name} arrived with sha256 {arrived}, expected {sha256}; try again")


def _send(device: Transport, local: Path, remote: str) -> None:
    """Push. Where the device has no more room, what came of it does not stay in the way."""
    try:
        _send_shown(device, local, remote)
    except DeviceFullError:
        with suppress(DeviceError):
            remove(device, remote)
        raise


def _send_shown(device: Transport, local: Path, remote: str) -> None:
    """Push, and show it where it may take a while."""
    size = local.stat().st_size
    if size < _SHOWN_BYTES:
        device.push(local, remote)
        return
    with device.progress.task(f"{device.url} {local.name}, {size / 1e6:.0f} MB", size) as advance:
        before = 0

        def sent(now: int) -> None:
            nonlocal before
            advance(max(now - before, 0), "")  # after a broken link it goes on a bit before where it was
            before = max(now, before)

        device.push(local, remote, sent)


def remove(device: Transport, *remotes: str) -> None:
    """Remove files from the device; one that is not there is no error."""
    _there(device, "remove", *remotes)


def remote_sha256s(device: Transport, remotes: Sequence[str]) -> dict[str, str]:
    """Of those files that are on the device. Raises DeviceError."""
    return _sha256s(device, "sha256", remotes)


def _sha256s(device: Transport, verb: str, remotes: Sequence[str]) -> dict[str, str]:
    result = _there(device, verb, *remotes)
    found = {path: sha256 for sha256, _, path in (line.partition("  ") for line in result.stdout.splitlines())}
    if not set(found) <= set(remotes):
        raise DeviceError(f"{describe_failure(result, device.url)}; it said {result.stdout!r}")
    return found


def _there(device: Transport, verb: str, *arguments: str) -> CommandResult:
    argv = ["sh", "-c", _SHELL[verb], "sh"] if device.python is None else [device.python, "-S", "-c", _PYTHON[verb]]
    return checked(device, [*argv, *arguments], timeout_s=_TIMEOUT_S)
