"""Boards with adbd as files, without QEMU, adb or a compiler: what is asked for, refused, kept and forwarded."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from edgekit import attached, boards
from edgekit.boards import Board, adbd, creating, machine, system, tools
from edgekit.boards.folders import ADB_PORT, FACTS, find_board
from edgekit.cli import main
from edgekit.errors import ConfigError, DeviceError

SAID = {"preset": "plain", "created": "2026-01-01T00:00:00+00:00", "memory_mib": 1024, "packages": {}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_BOARDS", str(tmp_path / "boards"))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "boards"


@pytest.fixture
def paper(root: Path) -> Board:
    """A board that has no disk."""
    (root / "paper").mkdir(parents=True)
    (root / "paper" / FACTS).write_text(json.dumps({**SAID, "scheme": "adb"}))
    (root / "paper" / ADB_PORT).write_text(f"{tools.free_port()}\n")
    return find_board("paper")


class TestCreating:
    @pytest.fixture(autouse=True)
    def _nothing_is_done(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(creating, "check_tools", lambda **_: None)
        monkeypatch.setattr(creating, "find_adb", lambda _: "adb")
        for name in ("unpack", "_kernel", "_keys", "_disk"):
            monkeypatch.setattr(creating, name, lambda *_: None)
        monkeypatch.setattr(creating, "install_packages", lambda *_: {})
        monkeypatch.setattr(creating.system, "configure", lambda *_: None)

    def test_the_board_has_adbd_and_a_port_of_its_own(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        built, unpacked = tmp_path / "adbd", []
        monkeypatch.setattr(adbd, "find_adbd", lambda mirror: built)
        monkeypatch.setattr(creating, "unpack", lambda tree, packages, mirror: unpacked.extend(packages))
        monkeypatch.setattr(machine, "snapshots", lambda _: ())
        added: list[Path] = []
        monkeypatch.setattr(system, "add_adbd", lambda tree, program: added.append(program))
        assert main(["board", "create", "orin", "--as", "adb", "--json"]) == 0
        said = json.loads(capfd.readouterr().out)
        port = (root / "orin" / ADB_PORT).read_text().strip()
        assert said["url"] == f"adb:127.0.0.1:{port}?python=python3"
        assert said["ssh_url"].startswith("ssh://orin/")
        assert added == [built]
        assert {*adbd.PACKAGES, "util-linux"} < set(unpacked)

    def test_over_ssh_alone_nothing_is_built(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(adbd, "find_adbd", lambda _: pytest.fail("it is built"))
        board = boards.create("orin")
        assert board.url == board.ssh_url
        assert board.adb_serial is None

    def test_a_build_that_breaks_leaves_neither_board_nor_adbd(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaks(*_: object) -> None:
            raise ConfigError("no compiler")

        monkeypatch.setattr(adbd, "unpack", lambda *_: None)
        monkeypatch.setattr(adbd, "_fetch_source", breaks)
        with pytest.raises(ConfigError, match="no compiler"):
            boards.create("orin", scheme="adb")
        assert list(root.iterdir()) == []
        assert list((tmp_path / "cache/adbd").iterdir()) == []

    def test_a_scheme_that_is_none(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"no scheme 'adbd'; did you mean 'adb'\?"):
            boards.create("orin", scheme="adbd")  # type: ignore[arg-type]
        assert not root.exists()


def test_adbd_is_built_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(system: Path, machine: str, output: Path) -> None:
        built.append(machine)
        output.parent.mkdir(parents=True)
        output.touch()

    monkeypatch.setattr(adbd, "unpack", lambda *_: None)
    monkeypatch.setattr(adbd, "build_adbd", build)
    assert adbd.find_adbd() == adbd.find_adbd()
    assert built == ["aarch64"]


def test_a_host_without_the_compiler(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "KEYRING", "/")
    monkeypatch.setattr(tools, "find", lambda tool: None if tool in ("clang++", "ld.lld") else tool)
    assert tools.why_not() is None
    with pytest.raises(ConfigError, match=r"no clang\+\+, ld.lld here: .*--no-install-recommends clang lld$"):
        boards.create("orin", scheme="adb")
    assert not root.exists()


def test_a_host_without_adb(root: Path, paper: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB", "/no/such/adb")
    for module in (creating, machine):
        monkeypatch.setattr(module, "check_tools", lambda **_: None)
    with pytest.raises(DeviceError, match="board 'orin': there is no /no/such/adb here: install"):
        boards.create("orin", scheme="adb")
    with pytest.raises(DeviceError, match="board 'paper': there is no /no/such/adb here: install"):
        boards.start(paper)


def test_a_board_of_before_is_reached_over_ssh(root: Path) -> None:
    (root / "old").mkdir(parents=True)
    (root / "old" / FACTS).write_text(json.dumps(SAID))
    assert find_board("old").url.startswith("ssh://old/")


def test_its_port_is_kept_unless_somebody_took_it(paper: Board) -> None:
    kept = int((paper.folder / ADB_PORT).read_text())
    assert {there: here for here, there in machine._forwards(paper).items()}[system.ADBD_PORT] == kept
    with socket.socket() as other:
        other.bind(("127.0.0.1", kept))
        other.listen()
        forwards = {there: here for here, there in machine._forwards(paper).items()}
    assert forwards[system.ADBD_PORT] != kept
    assert paper.url == f"adb:127.0.0.1:{forwards[system.ADBD_PORT]}?python=python3"


def test_qemu_forwards_this_machine_alone(paper: Board) -> None:
    argv = machine._argv(paper, {2299: 22, 5599: 5555}, None)
    [network] = [word for word in argv if word.startswith("user,")]
    assert network == "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:2299-:22,hostfwd=tcp:127.0.0.1:5599-:5555"


def test_a_board_that_adb_lists_is_told_as_a_board(paper: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [f"adb:{paper.adb_serial}", "adb:R58M12345"]
    monkeypatch.setattr(attached, "attached_phones", lambda: listed)
    assert attached.attached() == ["local:", "adb:R58M12345"], "it does not run"
    monkeypatch.setattr(Board, "state", "running")
    assert attached.attached() == ["local:", paper.url, "adb:R58M12345"]


def test_what_runs_on_the_board(tmp_path: Path) -> None:
    for folder in ("etc", "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "built").write_bytes(b"adbd")
    system.add_adbd(tmp_path, tmp_path / "built")
    assert (tmp_path / "usr/sbin/adbd").read_bytes() == b"adbd"
    lines = (tmp_path / "etc/inittab").read_text().splitlines()
    assert any("sshd" in line for line in lines)
    assert any("ADBD_NETWORK=1 ADBD_PORT=5555" in line for line in lines)


class TestSource:
    def test_lists_are_made_of_those_of_the_system(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        apt, folder = tmp_path / "apt", tmp_path / "folder"
        (apt / "sources.list.d").mkdir(parents=True)
        (apt / "sources.list").write_text("# Debian\ndeb http://mirror/debian bookworm main\n")
        (apt / "sources.list.d/own.sources").write_text("Types: deb\nURIs: http://own/debian\n")
        called: list[list[str]] = []

        def call(argv: list[str], *, cwd: Path, timeout_s: float, what: str) -> None:
            called.append(argv)
            (cwd / "android-platform-tools-29.0.6").mkdir(exist_ok=True)

        monkeypatch.setattr(adbd, "call", call)
        assert adbd._fetch_source(apt, folder).name == "android-platform-tools-29.0.6"
        assert (folder / "sources.list").read_text() == "deb-src http://mirror/debian bookworm main\n"
        assert (folder / "parts/own.sources").read_text() == "Types: deb-src\nURIs: http://own/debian\n"
        assert [argv[-1] for argv in called] == ["update", "adb"]
        assert f"-oDir::State::lists={folder}/lists" in called[0], "this machine's own stay as they are"

    def test_another_source_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "main.cpp").write_text("int main() {}\n")
        with pytest.raises(ConfigError, match=r"main.cpp is another than that of Debian 12's adb 29.0.6: it has no"):
            adbd._edit(tmp_path / "main.cpp", "a()", "b()")
