"""AOSP's own adbd for this machine, to make a phone of, with mksh and toybox, which are a phone's sh and commands.

    python -m tests.devices.adbd          half a minute; needs what NEEDS names, and the network for 76 MB of source

The result stays in `.cache/adbd` of the repository, which git ignores; tests without it skip.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path

from edgekit.boards import adbd
from edgekit.boards.tools import call
from edgekit.files import publish

CACHE = Path(__file__).parents[2] / ".cache" / "adbd"
ADBD = CACHE / adbd.recipe() / "adbd"
TOOLS = CACHE / "tools"
NEEDS = f"clang lld dpkg-dev {' '.join(adbd.NEEDS)}"
GET = f"apt-get install adb {NEEDS} && python -m tests.devices.adbd"


def main() -> int:
    """Build it, unless it is there."""
    if not TOOLS.exists():
        _unpack_tools()
    if not ADBD.exists():
        adbd.build_adbd(Path("/"), platform.machine(), ADBD)
    sys.stdout.write(f"{ADBD}\n")
    return 0


def _unpack_tools() -> None:
    """Unpacked, not installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        folder = Path(scratch)
        call(["apt-get", "-qq", "download", "mksh", "toybox"], cwd=folder, timeout_s=300, what="a phone's tools")
        for package in folder.glob("*.deb"):
            call(["dpkg-deb", "-x", package, folder / "tools"], timeout_s=60, what="a phone's tools")
        publish(folder / "tools", TOOLS)


if __name__ == "__main__":
    sys.exit(main())
