"""Run on a board as `python3 -c CODE VERB HOLDER TTL_S`: the lease that machines leave there for each other.

`take` writes it, or says who has it; taking it again is the sign of life. `release` removes it. A lease without a sign
of life for TTL_S counts no more, nor does one of the machine that asks, since on one machine a lock of the kernel came
first. Prints the other holder as JSON, or null. The standard library alone, Python 3.10 and newer.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
from pathlib import Path

LEASE, LOCK = Path("lease.json"), Path("lease.lock")  # in the device's folder, which machines share by its name


def read() -> dict[str, object] | None:
    """The lease that is there; one that cannot be read is none."""
    try:
        lease: dict[str, object] = json.loads(LEASE.read_text())
    except (OSError, ValueError):
        return None
    return lease


def is_alive(ttl_s: float) -> bool:
    """Whether its last sign of life is recent; the board's clock may have jumped either way."""
    return abs(time.time() - LEASE.stat().st_mtime) < ttl_s


def take(ours: dict[str, object], ttl_s: float) -> dict[str, object] | None:
    """Write it, or say who has it."""
    other = read()
    if other is not None and other["token"] != ours["token"] and other["host"] != ours["host"] and is_alive(ttl_s):
        return other
    part = LEASE.with_suffix(".part")
    part.write_text(json.dumps(ours))
    part.replace(LEASE)
    return None


def release(ours: dict[str, object], ttl_s: float) -> None:  # noqa: ARG001  # every verb's arguments
    """Remove it if it is ours."""
    other = read()
    if other is not None and other["token"] == ours["token"]:
        LEASE.unlink()


if __name__ == "__main__":
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(json.dumps({"take": take, "release": release}[sys.argv[1]](json.loads(sys.argv[2]), float(sys.argv[3]))))  # noqa: T201
