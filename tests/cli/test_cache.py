from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.runtime.__main__ import main
from edgekit.tensorrt.cache import EngineCache, cache_folder
from tests.tensorrt.builders import FakeBuilder
from tests.tensorrt.test_cache import MACHINE, RECIPE

Run = Callable[..., Any]


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    cache = EngineCache(cache_folder())
    for model in (b"one", b"two"):
        cache.get(model, RECIPE, MACHINE, FakeBuilder(b"engine" * 50_000))
    return cache.folder


def test_a_list(edgekit: Run, filled: Path) -> None:
    listing = edgekit("cache", "list", "--json").json
    assert (len(listing["engines"]), listing["damaged"], listing["folder"]) == (2, [], str(filled))
    assert listing["engines"][0]["entry"]["machine"]["gpu"] == "Orin"
    text = edgekit("cache", "list").stdout
    assert listing["engines"][0]["entry"]["key"][:12] in text
    assert "tensorrt 10.3.0.30, Orin" in text
    assert text.splitlines()[-1] == f"{filled}: 2 engine(s), 0.6 MB"


def test_an_empty_list(edgekit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    assert edgekit("cache", "list").stdout == f"{tmp_path}/engines: 0 engine(s), 0.0 MB\n"


def test_pruning(edgekit: Run, filled: Path) -> None:
    (filled / "broken.json").write_text("{")
    assert "damaged: broken.json" in edgekit("cache", "list").stdout
    ended = edgekit("cache", "prune", "--max-bytes", 300_000)
    assert ended.stdout == "1 engine(s) removed, 1 kept, 0.3 MB freed\nremoved broken.json: damaged\n"
    assert edgekit("cache", "prune", "--older-than", 1, "--json").json["kept"] == 1
    assert edgekit("cache", "prune", "--all", "--json").json["kept"] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("list", "--all"), "--older-than, --max-bytes and --all are for edgekit cache prune"),
        (("prune", "--older-than", "-1"), "older-than is -1.0, expected 0 or more"),
        (("prune", "--max-bytes", "many"), "invalid int value: 'many'"),
        (("clear",), "invalid choice: 'clear'"),
        ((), "the following arguments are required: action"),
    ],
)
def test_wrong_words(edgekit: Run, filled: Path, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("cache", *argv)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert edgekit("cache", "list", "--json").json["engines"]


def test_a_board_without_edgekit_asks_the_runtime(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*argv: str) -> dict[str, Any]:
        assert main(argv) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    assert len(ask("cache-list")["engines"]) == 2
    assert ask("cache-prune", "--older-than=3")["kept"] == 2
    assert len(ask("cache-prune", "--all")["removed"]) == 2
