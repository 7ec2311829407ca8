"""Push by content: the remote path carries the sha256, and only a verified file ever has that path."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from edgekit.devices.transport import Transport, checked, describe_failure
from edgekit.errors import DeviceError
from edgekit.files import sha256_file

FOLDER = "edgekit"

_TIMEOUT_S = 60.0
# Each runs as `python -c CODE ARGUMENT…` on the device, which may lack sha256sum.
_MAKE_FOLDER = "import os, sys; os.makedirs(sys.argv[1], exist_ok=True)"
_RENAME = """
import os, sys
def to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
to_disk(sys.argv[1])  # or a power cut leaves the name without the bytes
os.replace(sys.argv[1], sys.argv[2])
to_disk(os.path.dirname(sys.argv[2]) or ".")
"""
_REMOVE = "import os, sys; [os.remove(name) for name in sys.argv[1:] if os.path.exists(name)]"
_HASH = """
import hashlib, json, os, sys
digest = None
if os.path.exists(sys.argv[1]):
    digest = hashlib.sha256()
    with open(sys.argv[1], "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
print(json.dumps(digest and digest.hexdigest()))
"""


def push_by_content(device: Transport, local: Path) -> str:
    """Bring a file to the device unless its very bytes are there; returns its remote path, FOLDER/SHA256/NAME.

    It arrives under a temporary name and is renamed when its hash there is right. Raises DeviceError.
    """
    sha256 = sha256_file(local)
    remote = f"{FOLDER}/{sha256}/{local.name}"
    if _remote_sha256(device, remote) == sha256:
        return remote
    temporary = f"{remote}.{secrets.token_hex(4)}.part"
    _python(device, _MAKE_FOLDER, f"{FOLDER}/{sha256}")
    device.push(local, temporary)
    arrived = _remote_sha256(device, temporary)
    if arrived != sha256:
        remove(device, temporary)
        raise DeviceError(f"{device.url} {local.name} arrived with sha256 {arrived}, expected {sha256}; try again")
    _python(device, _RENAME, temporary, remote)
    return remote


def remove(device: Transport, *remotes: str) -> None:
    """Remove files from the device; one that is not there is no error."""
    _python(device, _REMOVE, *remotes)


def _remote_sha256(device: Transport, remote: str) -> str | None:
    result = checked(device, [device.python, "-c", _HASH, remote], timeout_s=_TIMEOUT_S)
    try:
        answer = json.loads(result.stdout)
    except ValueError as problem:
        raise DeviceError(f"{describe_failure(result, device.url)}; it said {result.stdout!r}") from problem
    return None if answer is None else str(answer)


def _python(device: Transport, code: str, *arguments: str) -> None:
    checked(device, [device.python, "-c", code, *arguments], timeout_s=_TIMEOUT_S)
