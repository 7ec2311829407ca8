"""Debian's packages for another processor, unpacked: no script of theirs runs, and nobody has to be root.

The steps come from mmdebstrap(1) ("extract").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.boards.tools import call

SUITE = "bookworm"

_ARCHITECTURE = "arm64"
_UNPACK_S = 900.0


def unpack(tree: Path, packages: Sequence[str], mirror: str | None) -> None:
    """Packages, with all that they depend on, into the new folder `tree`. Raises ConfigError.

    `mirror` is a Debian mirror's URL (default: mmdebstrap's own); the tree's /etc/apt says which it was.
    """
    argv = [
        *("mmdebstrap", "--quiet", "--mode=chrootless", "--variant=extract", f"--arch={_ARCHITECTURE}"),
        *("--skip=check/qemu", f"--include={','.join(packages)}", SUITE, str(tree), *([mirror] if mirror else [])),
    ]
    call(argv, timeout_s=_UNPACK_S, what="unpacking Debian's packages")
