from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.errors import OutputError
from edgekit.files import atomic, fresh_folder, publish, remove_folder, sha256_file, write_text
from tests.disk import below_a_file, no_space_beyond


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.bin"
    with atomic(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.suffix == ".bin"
        number = temporary.stat().st_ino
    assert target.read_bytes() == b"half"
    assert target.stat().st_ino == number  # renamed, not copied
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, problem: type[BaseException]) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise problem

    with pytest.raises(problem):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "out.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o640


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    target = below_a_file(tmp_path) / "out.txt"
    with pytest.raises(OutputError, match=r"cannot write .*out.txt: Not a directory; choose another folder with -o"):
        write_text(target, "x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where no file can be made: run it on Linux")
def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(OutputError, match=r"cannot write /proc/self/out.txt: "):
        write_text(Path("/proc/self/out.txt"), "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run it as another user")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"Permission denied; choose another folder with -o"):
        write_text(tmp_path / "out.txt", "x")


def test_no_space_leaves_nothing(tmp_path: Path) -> None:
    with no_space_beyond(1000), pytest.raises(OutputError, match=r"cannot write .*: File too large; free some space"):
        write_text(tmp_path / "out.txt", "x" * 2000)
    assert list(tmp_path.iterdir()) == []


def test_no_space_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "old")
    with no_space_beyond(1000), pytest.raises(OutputError):
        write_text(tmp_path / "out.txt", "x" * 2000)
    assert (tmp_path / "out.txt").read_text() == "old"


def test_the_hash_of_a_folder_covers_names_and_bytes(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            write_text(tmp_path / name / file, text)
        return sha256_file(tmp_path / name)

    first = made("a", {"x": "1", "sub/y": "2"})
    assert made("b", {"sub/y": "2", "x": "1"}) == first
    assert made("c", {"x": "1", "sub/z": "2"}) != first
    assert made("d", {"x": "1", "sub/y": "3"}) != first
    assert sha256_file(tmp_path / "a" / "x").startswith("6b86b273ff34fce1")


def test_a_fresh_folder_is_empty_unless_kept(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    write_text(fresh_folder(folder) / "left", "x")
    assert [file.name for file in fresh_folder(folder, keep=True).iterdir()] == ["left"]
    assert list(fresh_folder(folder).iterdir()) == []
    remove_folder(folder)
    remove_folder(folder)
    assert not folder.exists()


def test_a_fresh_folder_below_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot make folder .*: Not a directory"):
        fresh_folder(below_a_file(tmp_path))


def test_a_fresh_folder_where_a_file_is(tmp_path: Path) -> None:
    write_text(tmp_path / "work", "mine")
    for keep in (True, False):
        with pytest.raises(OutputError, match=r"cannot make folder"):
            fresh_folder(tmp_path / "work", keep=keep)
    assert (tmp_path / "work").read_text() == "mine"


def test_publishing_replaces_in_one_step(tmp_path: Path) -> None:
    write_text(tmp_path / "candidate", "new")
    write_text(tmp_path / "final", "old")
    publish(tmp_path / "candidate", tmp_path / "final")
    assert (tmp_path / "final").read_text() == "new"
    assert not (tmp_path / "candidate").exists()


def test_publishing_where_a_folder_is(tmp_path: Path) -> None:
    write_text(tmp_path / "candidate", "new")
    (tmp_path / "final").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*final: "):
        publish(tmp_path / "candidate", tmp_path / "final")
    assert (tmp_path / "candidate").read_text() == "new"
