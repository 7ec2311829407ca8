"""adb against the real adbd on loopback: what goes wrong is told apart, and a broken link loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices import open_device
from edgekit.devices.adb import AdbTransport, _Frames
from edgekit.devices.adb_client import AdbDevice, attached_phones, find_adb, parse_devices, parse_url
from edgekit.devices.hearing import Hearing
from edgekit.devices.pushing import push_by_content
from edgekit.errors import (
    ConfigError,
    DeviceError,
    DeviceFullError,
    DeviceTimeoutError,
    LinkError,
    OfflineError,
    UnauthorizedError,
)
from edgekit.files import sha256_file
from tests.devices import phone as phones
from tests.devices.phone import Phone, adb_server, make_phone
from tests.devices.sshd import free_port
from tests.devices.test_ssh import soon, waits_for

LARGE_MIB = 64


@pytest.fixture
def device(phone: Phone) -> AdbTransport:
    return AdbTransport(phone.url())


@pytest.fixture
def second(phone: Phone, tmp_path: Path) -> Iterator[Phone]:
    """Another phone on the same adb server."""
    other = make_phone(tmp_path / "second")
    other.start()
    yield other
    other.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a second, and no waiting between attempts."""
    monkeypatch.setattr("edgekit.devices.adb_client.CALL_S", 1.0)
    monkeypatch.setattr("edgekit.devices.adb_client.SETTLE_S", 1.0)
    monkeypatch.setattr("edgekit.devices.adb.WAIT_S", 1)
    monkeypatch.setattr("edgekit.devices.retrying.WAIT_S", 0.01)


class TestWords:
    """Captured output of adb."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("List of devices attached\n\n", ()),
            ("", ()),
            ("List of devices attached\nR58M12345\tdevice\n\n", (AdbDevice("R58M12345", "device"),)),
            (
                "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
                "List of devices attached\nemulator-5554\toffline\n10.0.0.7:5555\tunauthorized\n\n",
                (AdbDevice("emulator-5554", "offline"), AdbDevice("10.0.0.7:5555", "unauthorized")),
            ),
            (
                "List of devices attached\r\nR58M\tdevice\r\nZY22\trecovery\r\n\r\n",
                (AdbDevice("R58M", "device"), AdbDevice("ZY22", "recovery")),
            ),
            (
                "adb server version (39) doesn't match this client (41); killing...\n* daemon started successfully\n"
                "List of devices attached\n"
                "????????????\tno permissions (user in plugdev group; are your udev rules wrong?);"
                " see [http://developer.android.com/tools/device.html]\n",
                (
                    AdbDevice(
                        "????????????",
                        "no permissions (user in plugdev group; are your udev rules wrong?); "
                        "see [http://developer.android.com/tools/device.html]",
                    ),
                ),
            ),
            (
                "List of devices attached\nadb-39071-Lm._adb-tls-connect._tcp\tdevice\n* failed to start\n",
                (AdbDevice("adb-39071-Lm._adb-tls-connect._tcp", "device"),),
            ),
        ],
    )
    def test_what_is_attached(self, text: str, expected: tuple[AdbDevice, ...]) -> None:
        assert parse_devices(text) == expected

    @pytest.mark.parametrize(
        ("url", "serial", "folder", "python"),
        [
            ("adb:", "", "/data/local/tmp/edgekit", None),
            ("adb:R58M", "R58M", "/data/local/tmp/edgekit", None),
            ("adb:10.0.0.7:5555?folder=/opt/edge", "10.0.0.7:5555", "/opt/edge", None),
            ("adb:board?python=/usr/bin/python3", "board", "/data/local/tmp/edgekit", "/usr/bin/python3"),
        ],
    )
    def test_what_a_url_says(self, url: str, serial: str, folder: str, python: str | None) -> None:
        target = parse_url(url)
        assert (target.serial, target.folder, target.python) == (serial, folder, python)

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("adb:-s", "names no device"),
            ("adb://R58M", "names no device"),
            ("adb:R58M two", "names no device"),
            ("adb:R58M?pyhton=x", "sets 'pyhton'; did you mean 'python'?"),
            ("adb:R58M?folder=x", "expected a path that begins with /"),
        ],
    )
    def test_what_no_url_says(self, url: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            open_device(url)
        assert message in str(caught.value)


def test_an_answer_that_is_cut_short() -> None:
    """Wherever: what is whole is taken, and nobody takes it for the end."""
    said = b"stdout 4\none\nstderr 3\nerrstdout 5\n\ntwo\nended 0 0 12 9 3\n"
    for cut in range(len(said)):
        lines: list[str] = []
        hearing = Hearing(lines.append)
        frames = _Frames(hearing)
        frames.take(said[:cut])
        assert frames.last is None
        assert lines in ([], ["one"], ["one", "", "two"])
        frames.take(said[cut:])
        assert frames.last == "ended 0 0 12 9 3"
        assert (hearing.stdout.end(), hearing.stderr.end()) == ("one\n\ntwo\n", "err")
        assert lines == ["one", "", "two", "err"]


class TestBinary:
    def test_the_users_own_comes_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        own = tmp_path / "adb"
        own.write_text("#!/bin/sh\n")
        own.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_adb("adb:") == str(own)
        monkeypatch.setenv("ADB", "/no/such/adb")
        with pytest.raises(DeviceError, match=r"adb:: there is no /no/such/adb here: install Android's platform tools"):
            find_adb("adb:")

    def test_the_one_of_adbutils_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("adbutils", reason='no adbutils here: pip install "edgekit[adb]"')
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("ADB", raising=False)
        said = subprocess.run([find_adb("adb:"), "version"], capture_output=True, text=True, check=True).stdout
        assert said.startswith("Android Debug Bridge version 1.0.41")

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("ADB", raising=False)
        monkeypatch.setattr("edgekit.devices.adb_client.find_spec", lambda name: None)
        with pytest.raises(DeviceError, match=r"there is no adb here: install .*edgekit\[adb\]"):
            open_device("adb:R58M")


class TestWhich:
    """A device is always named, or the only one."""

    def test_none_is_attached(self, phone: Phone) -> None:
        with pytest.raises(OfflineError, match="no device is attached; is it switched on"):
            open_device("adb:")
        with pytest.raises(OfflineError, match=r"no such device is attached \(attached: none\)"):
            open_device("adb:R58M")

    def test_the_only_one_needs_no_name(self, device: AdbTransport) -> None:
        assert open_device("adb:").run(["echo", "here"], timeout_s=20).stdout == "here\n"
        assert attached_phones() == [device.url]

    def test_two_and_none_is_named(self, device: AdbTransport, second: Phone, phone: Phone) -> None:
        AdbTransport(second.url())
        names = f"{phone.serial}, {second.serial}"
        reverse = f"{second.serial}, {phone.serial}"
        with pytest.raises(ConfigError, match=rf"2 devices attached \(({names}|{reverse})\): choose one with --device"):
            open_device("adb:")
        there = AdbTransport(second.url())
        there.run(["sh", "-c", "echo mine > whose"], timeout_s=20)
        assert (second.home / "whose").exists()
        assert not (phone.home / "whose").exists()

    def test_nobody_answers(self, phone: Phone) -> None:
        with pytest.raises(OfflineError, match=r"Connection refused.*is it switched on"):
            open_device(f"adb:127.0.0.1:{free_port()}")

    def test_a_key_that_the_phone_does_not_know(self, tmp_path: Path) -> None:
        reason = phones.why_not()
        if reason is not None:
            pytest.skip(reason)
        own = make_phone(tmp_path / "phone", secure=True)
        with adb_server(tmp_path):
            own.start()
            try:
                with pytest.raises(UnauthorizedError, match=r"allow this computer on its screen"):
                    open_device(own.url())
                shutil.copy(tmp_path / ".android/adbkey.pub", own.root / "adb_keys")  # as the user's tap does
                assert open_device(own.url()).run(["echo", "in"], timeout_s=20).stdout == "in\n"
            finally:
                own.stop()


class TestFaults:
    def test_a_command_goes_on_while_the_link_is_cut(self, device: AdbTransport, phone: Phone) -> None:
        timer = soon(phone.cut, 0.5)
        code = "i=0; while [ $i -lt 6 ]; do echo $i; sleep 0.25; i=$((i+1)); done"
        result = device.run(["sh", "-c", code], timeout_s=60)
        timer.join()
        assert result.stdout.split() == [str(number) for number in range(6)]
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_push_goes_on_where_the_link_was_cut(self, device: AdbTransport, phone: Phone, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
        cut_at: list[int] = []
        sizes: list[int] = []

        def size() -> int:
            sizes.append(sum(path.stat().st_size for path in phone.home.rglob("large*.part")))
            return sizes[-1]

        def cut() -> None:
            waits_for(lambda: size() > 9 << 20)
            phone.cut()
            cut_at.append(size())

        thread = threading.Thread(target=cut)
        thread.start()
        remote = push_by_content(device, tmp_path / "large")
        thread.join()
        assert 0 < cut_at[0] < LARGE_MIB << 20
        assert sha256_file(phone.home / remote) == sha256_file(tmp_path / "large")
        assert not list(phone.home.rglob("*.part"))

    def test_a_link_that_stays_broken(self, device: AdbTransport, phone: Phone, impatient: None) -> None:
        phone.stop()
        with pytest.raises((LinkError, OfflineError)):
            device.run(["true"], timeout_s=5)

    def test_a_push_that_never_ends_leaves_nothing_at_the_name(
        self, device: AdbTransport, phone: Phone, tmp_path: Path, impatient: None
    ) -> None:
        (tmp_path / "large").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
        thread = threading.Thread(
            target=lambda: (waits_for(lambda: any(phone.home.rglob("large*.part"))), phone.stop())
        )
        thread.start()
        with pytest.raises((LinkError, OfflineError)):
            push_by_content(device, tmp_path / "large")
        thread.join()
        assert not list(phone.home.rglob("large"))

    def test_a_daemon_that_is_stopped(self, device: AdbTransport, phone: Phone, impatient: None) -> None:
        phone.freeze()
        start = time.monotonic()
        with pytest.raises((DeviceTimeoutError, LinkError), match=r"no answer after [12] s|device offline"):
            device.run(["true"], timeout_s=1)
        assert time.monotonic() - start < 60
        phone.thaw()
        assert AdbTransport(phone.url()).run(["echo", "awake"], timeout_s=20).stdout == "awake\n"

    def test_what_a_command_started_ends_with_it(self, device: AdbTransport, phone: Phone) -> None:
        with pytest.raises(DeviceTimeoutError, match=r"was not done after 0\.5 s"):
            device.run(["sh", "-c", "sleep 3141 & sleep 3142"], timeout_s=0.5)
        assert waits_for(lambda: not phone.runs("sleep 314"))

    def test_a_client_that_goes_away_leaves_no_process(self, device: AdbTransport, phone: Phone) -> None:
        """Killed in the midst of `run`: the supervisor on the phone ends the command at its deadline all the same."""
        code = (
            "import sys; from edgekit.devices.adb import AdbTransport;"
            "AdbTransport(sys.argv[1]).run(['sh', '-c', 'sleep 2718 & sleep 2719'], timeout_s=3)"
        )
        with subprocess.Popen([shutil.which("python") or "python3", "-c", code, phone.url()]) as client:
            assert waits_for(lambda: phone.runs("sleep 2719"))
            client.kill()
        assert phone.runs("sleep 2719"), "it outlived the client"
        assert waits_for(lambda: not phone.runs("sleep 271"))
        assert not phone.runs("supervisor")

    def test_a_client_that_gives_up_ends_the_command(
        self, device: AdbTransport, phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgekit.devices.adb.WAIT_S", 1)
        monkeypatch.setattr("edgekit.devices.adb.GRACE_S", -599.0)  # its own deadline comes after one wait
        monkeypatch.setattr(
            device, "_retried", lambda words: b"running\n" if device._supervised(words, b"", 20) else b""
        )
        with pytest.raises(DeviceTimeoutError, match="was not ended at its deadline"):
            device.run(["sleep", "1618"], timeout_s=600)
        assert waits_for(lambda: not phone.runs("sleep 1618"))

    def test_a_board_without_what_watches_need(self, device: AdbTransport, phone: Phone) -> None:
        (phone.root / "system/bin/setsid").unlink()
        with pytest.raises(DeviceError, match=r"cannot start true: there is no setsid.*Debian: util-linux"):
            device.run(["true"], timeout_s=60)

    def test_no_space_there(self, device: AdbTransport, phone: Phone, tmp_path: Path) -> None:
        """A small file system inside adbd's own mount namespace."""
        small = f"mkdir -p {phone.home}/edgekit && mount -t tmpfs -o size=1m tmpfs {phone.home}/edgekit"
        assert phone.process is not None
        subprocess.run(["nsenter", "-m", "-t", str(phone.process.pid), "sh", "-c", small], check=True)
        (tmp_path / "large").write_bytes(os.urandom(4 << 20))
        with pytest.raises(DeviceFullError, match="No space left on device"):
            push_by_content(device, tmp_path / "large")
        left = device.run(["sh", "-c", "find edgekit -type f -name large"], timeout_s=20)
        assert left.stdout == ""

    def test_results_that_were_fetched_are_removed(self, device: AdbTransport, phone: Phone) -> None:
        for _ in range(3):
            device.run(["true"], timeout_s=30)
        assert len(list((phone.home / "runs").iterdir())) == 1

    def test_what_dead_sessions_left_is_swept(self, device: AdbTransport, phone: Phone) -> None:
        old = phone.home / "runs/old"
        old.mkdir(parents=True)
        for path in (old / "status", phone.home / "model.part"):
            path.write_text("0 0 0")
            os.utime(path, (0, 0))
        device.run(["true"], timeout_s=30)
        assert not old.exists()
        assert not (phone.home / "model.part").exists()
