"""Where edgekit keeps what outlives a command: device results, device floors, leases."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """`$EDGEKIT_DATA`, else `edgekit` in the user's data folder (XDG Base Directory Specification)."""
    chosen = os.environ.get("EDGEKIT_DATA")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "edgekit")
