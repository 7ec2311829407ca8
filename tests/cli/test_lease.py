from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from edgekit.devices.leases import take_lease

Run = Callable[..., Any]
SAY = "import os; print(os.environ['EDGEKIT_DEVICE'])"
AGAIN = """
import os
from edgekit.devices.leases import leased_device
with leased_device(os.environ["EDGEKIT_DEVICE"], wait_s=0):
    pass
"""


def test_a_command_finds_its_device(edgekit: Run) -> None:
    ended = edgekit("lease", "--device", "local:rack", "--", sys.executable, "-c", SAY)
    assert (ended.exit_code, ended.stdout.splitlines()[0]) == (0, "local:rack")
    assert "local:rack is ours" in ended.stderr


def test_its_exit_code_is_the_commands(edgekit: Run) -> None:
    ended = edgekit("lease", "--device", "local:rack", "--json", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert ended.exit_code == 7
    assert ended.json == {"device": "local:rack", "exit_code": 7}


def test_the_first_that_is_free_is_taken(edgekit: Run) -> None:
    held = take_lease(["local:one"], wait_s=0)
    try:
        urls = ("--device", "local:one", "--device", "local:two")
        assert edgekit("lease", *urls, "--json", "--", "true").json["device"] == "local:two"
        ended = edgekit("lease", "--device", "local:one", "--wait", 0, "--", "true")
        assert ended.exit_code == 3
        assert "local:one" in ended.stderr
    finally:
        held.release()
    assert edgekit("lease", "--device", "local:one", "--wait", 0, "--", "true").exit_code == 0


def test_what_the_command_starts_has_the_lease_too(edgekit: Run) -> None:
    assert edgekit("lease", "--device", "local:rack", "--", sys.executable, "-c", AGAIN).exit_code == 0


def test_a_command_that_is_not_there(edgekit: Run) -> None:
    ended = edgekit("lease", "--device", "local:rack", "--", "no-such-command")
    assert (ended.exit_code, ended.stderr.splitlines()[-1]) == (
        2,
        "error: cannot start no-such-command: No such file or directory",
    )
