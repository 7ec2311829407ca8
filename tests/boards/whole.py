"""What must hold on a device whatever has happened to it: what has its final name is whole."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

from edgekit import boards
from edgekit.boards import Board
from edgekit.devices import deploy, opened_device
from edgekit.devices.installing import install
from edgekit.devices.transport import Transport, checked
from edgekit.errors import DeviceError
from edgekit.files import sha256_file

_LOOK = """
import hashlib, json, os
def sha(path):
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
pushed, links, folders = [], {}, {}
for folder, _, names in os.walk("edgekit"):
    pushed += [[os.path.basename(folder), name, sha(os.path.join(folder, name))] for name in names]
model = "models/tiny"
for name in os.listdir(model) if os.path.isdir(model) else []:
    path = os.path.join(model, name)
    if os.path.islink(path):
        links[name] = os.readlink(path)
    elif not name.startswith("."):
        folders[name] = {file: sha(os.path.join(path, file)) for file in os.listdir(path)}
print(json.dumps([pushed, links, folders]))
"""


def look(device: Transport, bundles: list[Path]) -> str | None:
    """Checks every final path; returns the version that is current."""
    said = checked(device, [device.python, "-c", _LOOK], timeout_s=120).stdout
    pushed, links, folders = json.loads(said)
    for folder, name, sha256 in pushed:
        assert sha256 == folder or name.endswith(".part"), f"{folder}/{name} is not what it says"
    known = {sha256_file(bundle) for bundle in bundles}
    for version, files in folders.items():
        assert len(files) == 2, f"{version} has {sorted(files)}"
        assert files["tiny-1.0.0.edgekit"] in known
        assert version == f"1.0.0-{files['tiny-1.0.0.edgekit'][:12]}"
    assert all(version in folders for name, version in links.items() if not name.startswith(".")), (links, folders)
    return links.get("current")


def cut_power_while_installing(board: Board, bundle: Path, *, after_s: float) -> None:
    """Install a bundle, which ends in one way or the other, and pull the board's plug meanwhile."""

    def work() -> None:
        with suppress(DeviceError), opened_device(board.url) as device:
            install(deploy(bundle, device))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(after_s)
    boards.power_cut(board)
    thread.join(timeout=180)
    assert not thread.is_alive(), "it hangs"
