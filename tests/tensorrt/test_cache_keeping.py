"""What `edgekit cache` lists and removes."""

from __future__ import annotations

import os
from pathlib import Path
from time import time

import pytest

from edgekit.errors import ConfigError
from edgekit.tensorrt.cache import EngineCache
from edgekit.tensorrt.cache_keeping import list_cache, prune
from tests.tensorrt.builders import FakeBuilder
from tests.tensorrt.test_cache import ENGINE, MACHINE, RECIPE

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three engines, used for the last time today, 10 and 20 days ago."""
    cache = EngineCache(tmp_path / "engines")
    for days in (0, 10, 20):
        entry = cache.get(f"{days} days".encode(), RECIPE, MACHINE, FakeBuilder(ENGINE)).entry
        then = time() - days * DAY_S
        os.utime(cache.folder / f"{entry.key}.json", (then, then))
    return cache.folder


def keys(folder: Path) -> list[str]:
    return [item.entry.key for item in list_cache(folder).engines]


def test_a_list_has_the_engine_used_last_first(folder: Path) -> None:
    listing = list_cache(folder)
    used = [item.used for item in listing.engines]
    assert used == sorted(used, reverse=True)
    assert [item.entry.machine for item in listing.engines] == [MACHINE] * 3
    assert (listing.damaged, listing.folder) == ((), str(folder))
    assert listing.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_use_counts(folder: Path) -> None:
    oldest = keys(folder)[-1]
    EngineCache(folder).get(b"20 days", RECIPE, MACHINE, FakeBuilder(b""))
    assert keys(folder)[0] == oldest


def test_an_empty_cache(tmp_path: Path) -> None:
    assert list_cache(tmp_path / "none").engines == ()
    assert prune(tmp_path / "none", everything=True).kept == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("days", "limit", "everything", "kept"),
    [
        (None, None, False, 3), (15, None, False, 2), (5, None, False, 1), (None, 2 * len(ENGINE), False, 2),
        (None, 2 * len(ENGINE) - 1, False, 1), (None, 0, False, 0), (15, len(ENGINE), False, 1), (None, None, True, 0),
    ],
)  # fmt: skip
def test_what_goes(folder: Path, days: float | None, limit: int | None, everything: bool, kept: int) -> None:
    before = keys(folder)
    pruned = prune(folder, older_than_days=days, max_bytes=limit, everything=everything)
    assert keys(folder) == before[:kept]
    assert (pruned.kept, set(pruned.removed)) == (kept, set(before[kept:]))
    assert pruned.freed_bytes >= (3 - kept) * len(ENGINE)
    assert not list(folder.glob("*.timing"))


def test_damaged_files_and_leftovers_go(folder: Path) -> None:
    first, second, _ = keys(folder)
    (folder / f"{first}.json").write_text("{")
    (folder / f"{second}.engine").write_bytes(b"short")
    (folder / ".building-x").mkdir()
    (folder / f"{'0' * 64}.engine").write_bytes(b"without facts")
    listing = list_cache(folder)
    assert len(listing.engines) == 1
    assert len(listing.damaged) == 5
    pruned = prune(folder)
    assert sorted(pruned.damaged) == sorted(listing.damaged)
    assert {path.suffix or path.name for path in folder.iterdir()} == {".engine", ".json", "lock"}
    assert len(list(folder.iterdir())) == 3


def test_while_a_build_is_on_what_is_unfinished_stays(folder: Path) -> None:
    (folder / ".building-x").mkdir()
    with EngineCache(folder).locked():
        pruned = prune(folder, everything=True)
    assert pruned.notes == ("a build is on: what is unfinished stays",)
    assert (folder / ".building-x").exists()
    assert len(pruned.removed) == 3


@pytest.mark.parametrize(("days", "limit"), [(-1, None), (None, -1)])
def test_wrong_limits(folder: Path, days: float | None, limit: int | None) -> None:
    with pytest.raises(ConfigError, match=r"(older-than|max-bytes) is -1, expected 0 or more"):
        prune(folder, older_than_days=days, max_bytes=limit)
    assert len(keys(folder)) == 3
