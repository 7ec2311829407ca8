"""Where edgekit keeps what outlives a command: device results, device floors, leases, and what is built once."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """`$EDGEKIT_DATA`, else `edgekit` in the user's data folder (XDG Base Directory Specification)."""
    chosen = os.environ.get("EDGEKIT_DATA")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "edgekit")


def cache_folder(kind: str) -> Path:
    """`$EDGEKIT_CACHE/KIND`, else `edgekit/KIND` in the user's cache folder."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    return Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgekit"), kind)
