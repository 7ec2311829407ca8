"""The script on this machine, and `edgekit devices`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.resources import files

import pytest

from edgekit.cli import main
from edgekit.devices.facts import parse_facts, probe_facts, thermal_state
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Transport


def test_this_machine(device: Transport) -> None:
    facts = probe_facts(device)
    assert (facts.machine, facts.cpus) == (platform.machine(), os.cpu_count())
    assert facts.kernel == f"{platform.system()} {platform.release()}"
    assert facts.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.emulated is None
    if device.python is None:  # the phone of these tests: a changed root, of which its kernel lists no mount
        assert (facts.python, facts.storage_free_bytes) == (None, None)
    else:
        assert facts.storage_free_bytes is not None
        assert facts.python is not None
        assert facts.python.packages["numpy"]


def test_the_state_is_a_part_of_the_facts(local_device: LocalTransport) -> None:
    state = thermal_state(local_device)
    assert state.governors == probe_facts(local_device).state.governors


def test_without_a_python() -> None:
    script = files("edgekit.devices").joinpath("facts.sh").read_text()
    done = subprocess.run(
        ["sh", "-c", script, "facts", "all", "no-such-python"], capture_output=True, text=True, check=True
    )
    facts = parse_facts(done.stdout)
    assert (facts.python, facts.machine) == (None, platform.machine())


@pytest.mark.usefixtures("_nothing_attached")
def test_the_verb(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    told = capfd.readouterr().out
    assert told.startswith("local:\n  board")
    assert f"cpu             {platform.machine()}, {os.cpu_count()} cores" in told
    assert main(["devices", "--json"]) == 0
    (device,) = json.loads(capfd.readouterr().out)["devices"]
    assert (device["url"], device["error"]) == ("local:", None)
    assert device["facts"]["machine"] == platform.machine()


def test_a_device_that_does_not_answer(capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["devices", "--device", "local:", "--device", "ssh://no-such-host.invalid"]
    assert main(asked) == 3
    told = capfd.readouterr().out
    assert "ssh://no-such-host.invalid\n  OfflineError: " in told
    assert told.startswith("local:\n  board")
    assert main([*asked, "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["devices"][1]["error"]["type"] == "OfflineError"


@pytest.fixture
def _nothing_attached(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_BOARDS", str(tmp_path))
    monkeypatch.setenv("ADB", "/no/such/adb")  # no server is started for this
