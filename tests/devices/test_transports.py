from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from edgekit.devices import CommandResult, Transport
from edgekit.devices.local import LocalTransport
from edgekit.devices.pushing import push_by_content, remote_sha256s, remove
from edgekit.devices.transport import checked, describe_failure
from edgekit.errors import DeviceError


class TestContract:
    """What every transport does; a new one joins by its own `device` fixture. Its commands are those of every sh."""

    def test_a_command_that_ends_well(self, device: Transport) -> None:
        result = device.run(["sh", "-c", "sleep 0.1; echo out; echo err >&2"], timeout_s=60)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n", "err\n")
        assert 0 < result.elapsed_s < 60

    def test_an_exit_code_is_a_result(self, device: Transport) -> None:
        assert device.run(["sh", "-c", "exit 7"], timeout_s=60).exit_code == 7

    def test_a_signal_is_a_negative_exit_code(self, device: Transport) -> None:
        assert device.run(["sh", "-c", "kill -9 $$"], timeout_s=60).exit_code == -9

    def test_arguments_arrive_as_they_are(self, device: Transport) -> None:
        words = ["a b", "$HOME", "'", '"', "*", "\\", "", "two\nlines", "ä"]
        result = device.run(["sh", "-c", 'printf "<%s>" "$@"', "sh", *words], timeout_s=60)
        assert result.stdout == "".join(f"<{word}>" for word in words)

    def test_a_large_output_arrives_whole(self, device: Transport) -> None:
        line = "0123456789" * 100
        result = device.run(["sh", "-c", f"i=0; while [ $i -lt 500 ]; do echo {line}; i=$((i+1)); done"], timeout_s=60)
        assert result.stdout == f"{line}\n" * 500

    def test_what_a_command_prints_is_heard_while_it_runs(self, device: Transport, tmp_path: Path) -> None:
        """It goes on only when its first lines were heard, on both streams."""
        heard: list[str] = []
        (tmp_path / "go").write_text("")

        def listen(line: str) -> None:
            heard.append(line)
            if sorted(heard) == ["aside", "begun"]:
                device.push(tmp_path / "go", "go")

        script = "echo begun; echo aside >&2; until [ -e go ]; do sleep 0.05; done; printf 'ä\\n\\nend'"
        result = device.run(["sh", "-c", script], timeout_s=60, heard=listen)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "begun\nä\n\nend", "aside\n")
        assert heard[2:] == ["ä", "", "end"]

    def test_a_listener_that_gives_up_ends_the_command(self, device: Transport) -> None:
        def give_up(line: str) -> None:
            raise ConnectionResetError(line)

        with pytest.raises(ConnectionResetError, match="begun"):
            device.run(["sh", "-c", "echo $$ > pid; echo begun; sleep 60"], timeout_s=60, heard=give_up)
        gone = 'for n in 1 2 3 4 5 6 7 8 9; do kill -0 "$(cat pid)" 2>/dev/null || exit 0; sleep 1; done; exit 1'
        assert device.run(["sh", "-c", gone], timeout_s=60).exit_code == 0

    def test_a_command_that_does_not_end_is_killed(self, device: Transport) -> None:
        start = time.monotonic()
        with pytest.raises(DeviceError, match=r"was not done after 0.3 s"):
            device.run(["sleep", "60"], timeout_s=0.3)
        assert time.monotonic() - start < 30

    def test_a_command_that_is_not_there(self, device: Transport) -> None:
        with pytest.raises(DeviceError, match=r"cannot start no-such-command"):
            device.run(["no-such-command"], timeout_s=60)

    @pytest.mark.parametrize("size", [0, 1, 256_000])
    def test_files_go_there_and_back(self, device: Transport, tmp_path: Path, size: int) -> None:
        content = (bytes(range(256)) * 1000)[:size]
        (tmp_path / "there").write_bytes(content)
        device.push(tmp_path / "there", "file.bin")
        device.pull("file.bin", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        listing = device.run(["sh", "-c", "wc -c < file.bin"], timeout_s=60)
        assert listing.stdout.strip() == str(size)

    def test_a_shorter_file_replaces_a_longer_one(self, device: Transport, tmp_path: Path) -> None:
        for content in (b"longer", b"short"):
            (tmp_path / "there").write_bytes(content)
            device.push(tmp_path / "there", "file.bin")
        device.pull("file.bin", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"short"

    def test_how_far_a_file_is(self, device: Transport, tmp_path: Path) -> None:
        told: list[int] = []
        (tmp_path / "file.bin").write_bytes(bytes(9 << 20))
        device.push(tmp_path / "file.bin", "file.bin", told.append)
        assert told == sorted(told)
        assert told[-1] == 9 << 20

    def test_a_file_that_is_not_there(self, device: Transport, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match=r"cannot copy .*none"):
            device.pull("none", tmp_path / "back")
        assert not (tmp_path / "back").exists()

    @pytest.mark.parametrize("remote", ["../x", "a/../../x", "/etc/passwd"])
    def test_paths_outside_the_folder(self, device: Transport, tmp_path: Path, remote: str) -> None:
        (tmp_path / "file").write_text("")
        for move in (lambda: device.push(tmp_path / "file", remote), lambda: device.pull(remote, tmp_path / "back")):
            with pytest.raises(DeviceError, match="outside the device's folder"):
                move()

    def test_what_is_pushed_by_content_is_not_pushed_again(self, device: Transport, tmp_path: Path) -> None:
        (tmp_path / "model").write_bytes(b"content")
        remote = push_by_content(device, tmp_path / "model")
        assert remote_sha256s(device, [remote, "none"]) == {remote: hashlib.sha256(b"content").hexdigest()}
        device.run(["sh", "-c", 'touch -t 202001010000 "$1"', "sh", remote], timeout_s=60)
        before = device.run(["ls", "-l", remote], timeout_s=60).stdout
        assert push_by_content(device, tmp_path / "model") == remote
        assert device.run(["ls", "-l", remote], timeout_s=60).stdout == before
        remove(device, remote, "none")
        assert remote_sha256s(device, [remote]) == {}

    def test_closing_twice_is_harmless(self, device: Transport) -> None:
        device.close()
        device.close()


def test_the_folder_goes_away(local_device: LocalTransport) -> None:
    assert local_device.root.is_dir()
    local_device.close()
    assert not local_device.root.exists()


def test_a_failure_shows_argv_code_and_the_last_lines() -> None:
    stderr = "".join(f"line {number}\n" for number in range(30))
    text = describe_failure(CommandResult(("a", "b c"), 5, "", stderr, 1.0), "local:")
    assert text.startswith("local: a 'b c': exit code 5; stderr: line 10 | line 11")
    assert text.endswith("line 29")
    assert describe_failure(CommandResult(("a",), 5, "", "", 1.0), "local:").endswith("stderr: empty")


def test_a_command_that_must_succeed(local_device: LocalTransport) -> None:
    with pytest.raises(DeviceError, match=r"exit code 7"):
        checked(local_device, [local_device.python, "-c", "raise SystemExit(7)"], timeout_s=60)
