"""What this process has taken of the machine's memory."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int | None:
    """The most memory that was resident at once (VmHWM, proc(5)), which getrusage would count for a parent too.

    None where the kernel does not say it.
    """
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else int(found[1]) * 1024
