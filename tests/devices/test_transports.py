from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgekit.devices import CommandResult, Transport
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import checked, describe_failure
from edgekit.errors import DeviceError


class TestContract:
    """What every transport does; a new one joins by its own `device` fixture."""

    def test_a_command_that_ends_well(self, device: Transport) -> None:
        result = device.run(
            [device.python, "-c", "print('out'); import sys; print('err', file=sys.stderr)"], timeout_s=60
        )
        assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n", "err\n")
        assert 0 < result.elapsed_s < 60

    def test_an_exit_code_is_a_result(self, device: Transport) -> None:
        assert device.run([device.python, "-c", "raise SystemExit(7)"], timeout_s=60).exit_code == 7

    def test_arguments_arrive_as_they_are(self, device: Transport) -> None:
        words = ["a b", "$HOME", "'", '"', "*", "\\", ""]
        result = device.run([device.python, "-c", "import sys; print(sys.argv[1:])", *words], timeout_s=60)
        assert result.stdout.strip() == repr(words)

    def test_a_command_that_does_not_end_is_killed(self, device: Transport) -> None:
        start = time.monotonic()
        with pytest.raises(DeviceError, match=r"was not done after 0.3 s"):
            device.run([device.python, "-c", "import time; time.sleep(60)"], timeout_s=0.3)
        assert time.monotonic() - start < 30

    def test_a_command_that_is_not_there(self, device: Transport) -> None:
        with pytest.raises(DeviceError, match=r"cannot start no-such-command"):
            device.run(["no-such-command"], timeout_s=60)

    def test_files_go_there_and_back(self, device: Transport, tmp_path: Path) -> None:
        content = bytes(range(256)) * 1000
        (tmp_path / "there").write_bytes(content)
        device.push(tmp_path / "there", "file.bin")
        device.pull("file.bin", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        listing = device.run([device.python, "-c", "import os; print(os.path.getsize('file.bin'))"], timeout_s=60)
        assert listing.stdout == "256000\n"

    def test_a_file_that_is_not_there(self, device: Transport, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match=r"cannot copy .*none"):
            device.pull("none", tmp_path / "back")

    def test_closing_twice_is_harmless(self, device: Transport) -> None:
        device.close()
        device.close()


def test_the_folder_goes_away(local_device: LocalTransport) -> None:
    assert local_device.root.is_dir()
    local_device.close()
    assert not local_device.root.exists()


def test_a_path_outside_the_folder(local_device: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"'../evil' is outside the device's folder"):
        local_device.push(tmp_path / "file", "../evil")


def test_a_failure_shows_argv_code_and_the_last_lines() -> None:
    stderr = "".join(f"line {number}\n" for number in range(30))
    text = describe_failure(CommandResult(("a", "b c"), 5, "", stderr, 1.0), "local:")
    assert text.startswith("local: a 'b c': exit code 5; stderr: line 10 | line 11")
    assert text.endswith("line 29")
    assert describe_failure(CommandResult(("a",), 5, "", "", 1.0), "local:").endswith("stderr: empty")


def test_a_command_that_must_succeed(local_device: LocalTransport) -> None:
    with pytest.raises(DeviceError, match=r"exit code 7"):
        checked(local_device, [local_device.python, "-c", "raise SystemExit(7)"], timeout_s=60)
