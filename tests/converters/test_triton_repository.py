from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgekit_triton import repository
from edgekit_triton.repository import Place, check_shared, find_place, publish_model, staging

from edgekit.errors import ConfigError, OutputError
from edgekit.files import publish
from tests.disk import below_a_file, no_space_beyond


def place(folder: Path, version: int | None = None, *, replace: bool = False, name: str = "two") -> Place:
    return find_place(folder, name, version=version, replace=replace)


def put(where: Place, model: str, config: str = "config") -> tuple[Path, ...]:
    """One version of a model, in the steps of the exporter."""
    shared = {"config.pbtxt": config.encode()}
    with staging(where) as folder:
        staged = folder / where.folder.name
        for name, content in ((f"{where.version}/model.onnx", model), ("warmup/input-0.raw", model)):
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(content)
        check_shared(where, shared)
        (staged / "config.pbtxt").write_text(config)
        return publish_model(staged, where)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_versions_follow_each_other(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for number in (1, 2, 3):
        where = place(repo)
        assert where.version == number
        put(where, f"model {number}")
    assert contents(repo / "two") == {
        "1/model.onnx": "model 1",
        "2/model.onnx": "model 2",
        "3/model.onnx": "model 3",
        "config.pbtxt": "config",
        "warmup/input-0.raw": "model 3",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["repo"]


def test_files_are_named_in_their_final_place(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "two"
    wanted = (folder / "1/model.onnx", folder / "config.pbtxt", folder / "warmup/input-0.raw")
    assert put(place(tmp_path / "repo"), "model") == wanted


def test_the_version_that_is_asked_for(tmp_path: Path) -> None:
    put(place(tmp_path, 7), "seven")
    assert place(tmp_path).version == 8
    assert place(tmp_path, 3).version == 3


def test_folders_that_triton_ignores_are_no_versions(tmp_path: Path) -> None:
    for name in ("02", "notes", "5.bak"):
        (tmp_path / "two" / name).mkdir(parents=True)
    (tmp_path / "two" / "9").write_text("a file")
    assert place(tmp_path).version == 1


def test_other_models_and_files_stay(tmp_path: Path) -> None:
    others = {"other/1/model.onnx": "other", "two/configs/h100.pbtxt": "mine", "two/warmup/mine.raw": "mine"}
    for name, content in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    put(place(tmp_path), "model")
    put(place(tmp_path, 1, replace=True), "again", "changed")
    assert contents(tmp_path) == others | {
        "two/1/model.onnx": "again",
        "two/config.pbtxt": "changed",
        "two/warmup/input-0.raw": "again",
    }


def test_a_version_that_is_there(tmp_path: Path) -> None:
    put(place(tmp_path), "one")
    put(place(tmp_path), "two")
    with pytest.raises(ConfigError, match=r"two/1 is there already: leave --version-folder out for 3, or add --repl"):
        place(tmp_path, 1)


def test_shared_files_change_with_replace_alone(tmp_path: Path) -> None:
    put(place(tmp_path), "one")
    with pytest.raises(ConfigError, match=r"two/config.pbtxt is there and would change, for all versions of the model"):
        put(place(tmp_path), "two", "another")
    assert contents(tmp_path / "two") == {
        "1/model.onnx": "one", "config.pbtxt": "config", "warmup/input-0.raw": "one",
    }  # fmt: skip
    put(place(tmp_path, replace=True), "two", "another")
    assert contents(tmp_path / "two")["config.pbtxt"] == "another"
    assert contents(tmp_path / "two")["1/model.onnx"] == "one"


def test_a_version_that_cannot_be_replaced_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place(tmp_path), "one")

    def fail(candidate: Path, final: Path) -> None:
        if (candidate / "model.onnx").exists() and (candidate / "model.onnx").read_text() == "new":
            raise OutputError("no")
        publish(candidate, final)

    monkeypatch.setattr(repository, "publish", fail)
    with pytest.raises(OutputError, match="no"):
        put(place(tmp_path, 1, replace=True), "new")
    assert contents(tmp_path / "two")["1/model.onnx"] == "one"


def test_a_full_disk_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    put(place(repo), "one")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"cannot write .*repo: File too large; free some space"), no_space_beyond(8):
        put(place(repo), "more than eight bytes")
    assert contents(tmp_path) == before


def test_a_server_that_polls_sees_no_half_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def watch(candidate: Path, final: Path) -> None:
        seen.append(sorted(path.name for path in repo.iterdir()) if repo.exists() else None)
        publish(candidate, final)

    repo = tmp_path / "repo"
    monkeypatch.setattr(repository, "publish", watch)
    put(place(repo), "one")
    assert seen == [[]]
    seen.clear()
    put(place(repo), "two")
    assert seen == [["two"]] * 3
    assert contents(repo / "two")["2/model.onnx"] == "two"


def test_another_process_takes_the_same_version(tmp_path: Path) -> None:
    first, second = place(tmp_path), place(tmp_path)
    put(first, "one")
    with pytest.raises(OutputError, match=r"cannot write .*two/1: Directory not empty; choose another folder"):
        put(second, "two")
    assert contents(tmp_path / "two")["1/model.onnx"] == "one"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-x"])
def test_a_name_that_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be a Triton model's: give --name, of letters, digits, '_', '-' and"):
        place(tmp_path, name=name)


def test_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "two").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot write .*two: it is a file; choose another folder with -o"):
        place(tmp_path)
    with pytest.raises(OutputError, match="it is a file"):
        place(tmp_path / "two", name="x")


def test_a_folder_that_nobody_can_make(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*out/repo: .*; free some space or choose another folder"):
        put(place(below_a_file(tmp_path) / "repo"), "model")
