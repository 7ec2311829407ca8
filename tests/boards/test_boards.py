"""Boards as files, without QEMU: what is refused, what is whole, what is told of a dead one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from edgekit import boards
from edgekit.boards import Board, creating, initrd, machine, system, tools
from edgekit.boards.folders import FACTS, PID, SERIAL, find_board, list_boards, locked
from edgekit.boards.presets import MARKER, PRESETS
from edgekit.cli import main
from edgekit.errors import ConfigError, DeviceError

SAID = {"preset": "plain", "created": "2026-01-01T00:00:00+00:00", "memory_mib": 1024, "packages": {}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_BOARDS", str(tmp_path / "boards"))
    return tmp_path / "boards"


@pytest.fixture
def paper(root: Path) -> Board:
    """A board that has no disk."""
    (root / "paper").mkdir(parents=True)
    (root / "paper" / FACTS).write_text(json.dumps(SAID))
    return find_board("paper")


@pytest.mark.parametrize("name", ["", "Orin", "-x", "../x", "a b", "x" * 33])
def test_names_that_are_none(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        find_board(name)


def test_a_board_that_is_not_there(paper: Board, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "start", "papr"]) == 2
    assert "no board 'papr'; did you mean 'paper'?: edgekit board create papr" in capfd.readouterr().err


def test_a_host_without_the_packages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda tool: None)
    with pytest.raises(ConfigError, match=r"virtual boards need more: no qemu-system-aarch64, .* sudo apt-get install"):
        boards.create("orin")
    assert not root.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "jetson-orin"}, r"no preset 'jetson-orin'; did you mean 'jetson-orin-nano'\?"),
        ({"memory_mib": 64}, "memory is 64 MiB, expected 256 or more"),
        ({"disk_mib": 10}, "disk is 10 MiB, expected 1024 or more"),
        ({"vendor_wheels": Path("/none")}, "--vendor-wheels: /none is no folder of wheels"),
    ],
)
def test_settings_that_are_refused(root: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        boards.create("orin", **settings)  # type: ignore[arg-type]
    assert not root.exists()


@pytest.mark.parametrize("step", ["unpack", "install_packages", "_kernel", "_disk"])
def test_a_creation_that_breaks_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(creating, "check_tools", lambda **_: None)
    for name in ("unpack", "_kernel", "_keys", "_disk"):
        monkeypatch.setattr(creating, name, lambda *_: None)
    monkeypatch.setattr(creating, "install_packages", lambda *_: {})
    monkeypatch.setattr(creating.system, "configure", lambda *_: None)

    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(creating, step, breaks)
        with pytest.raises(KeyboardInterrupt):
            boards.create("orin")
    assert list_boards() == []
    assert list(root.iterdir()) == []
    (root / ".orin.work/board").mkdir(parents=True)  # of one that was killed
    (root / ".orin.work/board" / FACTS).write_text("{")
    assert list_boards() == []
    assert boards.create("orin").state == "stopped"
    assert [path.name for path in root.iterdir()] == ["orin"]
    with pytest.raises(ConfigError, match="there is a board 'orin'"):
        boards.create("orin")


def test_a_dead_one_says_so(paper: Board, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine, "snapshots", lambda _: ())
    assert paper.state == "stopped"
    (paper.folder / PID).write_text("1\n")  # alive, and not its QEMU
    (paper.folder / SERIAL).write_text("booting\nKernel panic\n")
    assert paper.state == "died"
    assert main(["board", "snapshot", "paper"]) == 3
    assert "board 'paper' died: its QEMU ended; its last words: booting | Kernel panic" in capfd.readouterr().err
    assert main(["board", "list", "--json"]) == 0
    (said,) = json.loads(capfd.readouterr().out)["boards"]
    assert (said["state"], said["virtual"]) == ("died", True)
    assert main(["board", "stop", "paper"]) == 0
    assert paper.state == "stopped"


def test_one_command_at_a_time(paper: Board) -> None:
    with locked(paper), pytest.raises(DeviceError, match="another command is at work"):
        boards.stop(paper)


def test_deleting(paper: Board, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "delete", "paper", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"name": "paper", "deleted": True}
    assert list_boards() == []


def test_a_board_file_that_was_changed(paper: Board) -> None:
    (paper.folder / FACTS).write_text('{"prest": "plain"}')
    with pytest.raises(ConfigError, match="unknown key 'prest'; did you mean 'preset'"):
        list_boards()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("start",), "edgekit board start NAME: which board?"),
        (("start", "paper", "--preset", "plain"), "--preset is for edgekit board create"),
        (("start", "paper", "--as", "adb"), "--as is for edgekit board create"),
        (("stop", "paper", "--tag", "x"), "--tag is for edgekit board snapshot and restore"),
        (("list", "--power-cut"), "--power-cut is for edgekit board stop"),
        (("list", "papr"), "no board 'papr'; did you mean 'paper'?"),
    ],
)
def test_words_that_do_not_fit(
    paper: Board, argv: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", *argv]) == 2
    assert message in capfd.readouterr().err


def test_an_initrd_has_each_driver_after_what_it_needs(tmp_path: Path) -> None:
    busybox = tmp_path / "bin/busybox"
    busybox.parent.mkdir()
    busybox.write_bytes(b"busybox")
    names = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_net", "virtio-rng")
    for name in names:
        (tmp_path / f"{name}.ko").write_bytes(name.encode())
    needs = "virtio_pci.ko: virtio_ring.ko virtio.ko\nvirtio_blk.ko: virtio.ko\nvirtio_net.ko:\nvirtio-rng.ko:\n"
    (tmp_path / "modules.dep").write_text(f"virtio.ko:\nvirtio_ring.ko: virtio.ko\n{needs}")
    initrd.write_initrd(tmp_path / "initrd.gz", tmp_path, tmp_path)
    content = gzip.decompress((tmp_path / "initrd.gz").read_bytes())
    order = [content.index(f"insmod /modules/{name}.ko".encode()) for name in names]
    assert order == sorted(order)
    assert content.startswith(b"070701")
    assert len(content) % 4 == 0


@pytest.mark.parametrize("name", PRESETS)
def test_whom_a_board_imitates(tmp_path: Path, name: str) -> None:
    masters = tmp_path / "usr/share/base-passwd"
    masters.mkdir(parents=True)
    (masters / "passwd.master").write_text("root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1::/:/none\n")
    (masters / "group.master").write_text("root:*:0:\n")
    for folder in ("etc", "bin", "usr/bin"):
        (tmp_path / folder).mkdir(exist_ok=True)
    system.configure(tmp_path, "orin", PRESETS[name])
    assert (tmp_path / MARKER).exists(), "whatever it says it is"
    assert (tmp_path / "etc/passwd").read_text().startswith("root:x:0:0:")
    identity = tmp_path / "etc/edgekit-board/compatible"
    assert identity.exists() == (name != "plain")
    if identity.exists():
        assert identity.read_bytes().endswith(b"\0linux,dummy-virt\0")
