"""Engines are built once, checked before use, and what fails leaves the cache good."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edgekit.errors import BuildError, EngineError
from edgekit.tensorrt.cache import BUILD_TIMEOUT_S, EngineCache, Machine, cache_folder, engine_key
from edgekit.tensorrt.cache_keeping import list_cache
from edgekit.tensorrt.recipe import Recipe, Shapes
from tests.disk import below_a_file, no_space_beyond
from tests.tensorrt.builders import FakeBuilder

MACHINE = Machine("tensorrt", "10.3.0.30", "Orin", "SM87", 12060, 12060, "36.4.3")
RECIPE = Recipe(profiles=({"x": Shapes((1, 4), (4, 4), (8, 4))},), optimization_level=3)
MODEL, ENGINE = b"an ONNX file", b"an engine" * 100
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder(ENGINE)


def files(cache: EngineCache) -> set[str]:
    return {path.suffix or path.name for path in cache.folder.iterdir()}


class TestKey:
    BASE = engine_key("ab", RECIPE, MACHINE)

    @pytest.mark.parametrize(
        "change",
        [
            {"package": "tensorrt_rtx"}, {"version": "10.3.0.31"}, {"gpu": "Orin NX"}, {"sm": "SM110"},
            {"cuda_runtime": 12080}, {"driver": 13000}, {"l4t": "36.4.4"}, {"l4t": None},
        ],
    )  # fmt: skip
    def test_each_fact_of_the_machine_is_in_it(self, change: dict[str, Any]) -> None:
        assert engine_key("ab", RECIPE, dataclasses.replace(MACHINE, **change)) != self.BASE

    def test_so_are_the_model_and_the_recipe(self) -> None:
        assert engine_key("cd", RECIPE, MACHINE) != self.BASE
        assert engine_key("ab", dataclasses.replace(RECIPE, dla_core=0), MACHINE) != self.BASE
        assert engine_key("ab", dataclasses.replace(RECIPE, profiles=()), MACHINE) != self.BASE

    def test_equal_facts_give_an_equal_key(self) -> None:
        same = Recipe(profiles=({"x": Shapes((1, 4), (4, 4), (8, 4))},), optimization_level=3)
        assert engine_key("ab", same, dataclasses.replace(MACHINE)) == self.BASE


class TestGetting:
    def test_the_second_time_is_not_built(self, cache: EngineCache, builder: FakeBuilder) -> None:
        first = cache.get(MODEL, RECIPE, MACHINE, builder)
        second = cache.get(MODEL, RECIPE, MACHINE, builder)
        assert (first.built_now, second.built_now, builder.builds) == (True, False, 1)
        assert first.plan == second.plan == ENGINE
        assert first.entry == second.entry
        assert (first.entry.bytes, first.entry.build_s, first.entry.recipe) == (len(ENGINE), 1.5, RECIPE)
        assert files(cache) == {".engine", ".json", "lock"}
        assert cache.folder.stat().st_mode & 0o077 == 0

    def test_another_model_is(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        cache.get(MODEL + b"2", RECIPE, MACHINE, builder)
        assert builder.models == [MODEL, MODEL + b"2"]

    def test_a_timing_cache_is_the_machines(self, cache: EngineCache, builder: FakeBuilder) -> None:
        other = dataclasses.replace(MACHINE, sm="SM89")
        for machine in (MACHINE, other):
            cache.get(MODEL, RECIPE, machine, builder)
        cache.get(MODEL + b"2", RECIPE, MACHINE, builder)
        cache.get(MODEL, Recipe(timing_cache=False), MACHINE, builder)
        first, second, third, none = builder.timing_caches
        assert first == third != second
        assert none is None
        assert BUILD_TIMEOUT_S >= 600

    @pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
    def test_a_damaged_engine_is_built_again(self, cache: EngineCache, builder: FakeBuilder, damage: str) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        (engine,) = cache.folder.glob("*.engine")
        if damage == "gone":
            engine.unlink()
        else:
            engine.write_bytes(b"@" + ENGINE[1:] if damage == "flip" else ENGINE[:-1])
        again = cache.get(MODEL, RECIPE, MACHINE, builder)
        assert (again.built_now, again.plan, builder.builds) == (True, ENGINE, 2)
        assert not cache.get(MODEL, RECIPE, MACHINE, builder).built_now

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"key": 1}', b"\xff", b"[" * 100_000])
    def test_damaged_facts_are_built_again(self, cache: EngineCache, builder: FakeBuilder, content: bytes) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        (facts,) = cache.folder.glob("*.json")
        facts.write_bytes(content)
        assert cache.get(MODEL, RECIPE, MACHINE, builder).built_now
        assert not cache.get(MODEL, RECIPE, MACHINE, builder).built_now

    def test_facts_of_another_entry_are_not_believed(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        (facts,) = cache.folder.glob("*.json")
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "key": "0" * 64}))
        assert cache.get(MODEL, RECIPE, MACHINE, builder).built_now

    def test_an_engine_that_was_refused_is_built_again_once(self, cache: EngineCache, builder: FakeBuilder) -> None:
        old = cache.get(MODEL, RECIPE, MACHINE, builder).entry.engine_sha256
        builder.content = ENGINE * 2
        assert cache.get(MODEL, RECIPE, MACHINE, builder, refused=old).plan == ENGINE * 2
        assert not cache.get(MODEL, RECIPE, MACHINE, builder, refused=old).built_now


def mutants(content: bytes, count: int) -> Iterator[bytes]:
    """The same with bytes flipped, cut off, doubled or put in, always the same ones."""
    random = Random(20261122)
    for _ in range(count):
        place, length = random.randrange(len(content)), random.randint(1, 8)
        middle = random.choice((random.randbytes(length), b"", content[place : place + length] * 2))
        yield content[:place] + middle + content[place + random.choice((0, length)) :]


class TestMutants:
    def test_no_mutant_of_an_engine_is_handed_out(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        (engine,) = cache.folder.glob("*.engine")
        for mutant in mutants(ENGINE, 150):
            engine.write_bytes(mutant)
            assert cache.get(MODEL, RECIPE, MACHINE, builder).plan == ENGINE

    def test_mutants_of_the_facts_end_in_the_engine_that_was_built(
        self, cache: EngineCache, builder: FakeBuilder
    ) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        (facts,) = cache.folder.glob("*.json")
        good = facts.read_bytes()
        for mutant in mutants(good, 150):
            facts.write_bytes(mutant)
            got = cache.get(MODEL, RECIPE, MACHINE, builder)
            assert got.plan == ENGINE
            list_cache(cache.folder)
        assert builder.builds > 100


class TestFailures:
    def test_a_build_that_fails_leaves_what_was_there(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        before = sorted(cache.folder.iterdir())
        builder.problem = BuildError("no engine: out of memory")
        with pytest.raises(BuildError, match="out of memory"):
            cache.get(MODEL + b"2", RECIPE, MACHINE, builder)
        assert sorted(cache.folder.iterdir()) == before
        assert not cache.get(MODEL, RECIPE, MACHINE, builder).built_now

    def test_a_full_disk_leaves_what_was_there(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        before = sorted(cache.folder.iterdir())
        message = r"the engine cache .* cannot be written to \(.*File too large.*\): free some space, or name another"
        with no_space_beyond(100), pytest.raises(EngineError, match=message):
            cache.get(MODEL + b"2", RECIPE, MACHINE, builder)
        assert sorted(cache.folder.iterdir()) == before
        with no_space_beyond(100):
            assert not cache.get(MODEL, RECIPE, MACHINE, builder).built_now

    def test_no_folder_can_be_made(self, tmp_path: Path, builder: FakeBuilder) -> None:
        with pytest.raises(EngineError, match=r"cannot be written to .*Not a directory.*EDGEKIT_CACHE"):
            EngineCache(below_a_file(tmp_path)).get(MODEL, RECIPE, MACHINE, builder)
        assert builder.builds == 0

    def test_a_folder_that_others_may_write_to(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        cache.folder.chmod(0o777)
        for model in (MODEL, MODEL + b"2"):
            with pytest.raises(EngineError, match=r"others may write to the engine cache .*: chmod go-w "):
                cache.get(model, RECIPE, MACHINE, builder)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away: run it as root")
    def test_a_folder_of_another_user(self, cache: EngineCache, builder: FakeBuilder) -> None:
        cache.get(MODEL, RECIPE, MACHINE, builder)
        os.chown(cache.folder, 12345, 12345)
        with pytest.raises(EngineError, match=r"belongs to another user: name your own with EDGEKIT_CACHE"):
            cache.get(MODEL, RECIPE, MACHINE, builder)


BUILD_IN_A_PROCESS = """
import sys, time
from pathlib import Path
from edgekit.tensorrt.cache import EngineCache
from tests.tensorrt.builders import FakeReport
from tests.tensorrt.test_cache import ENGINE, MACHINE, MODEL, RECIPE

folder, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def build(model, recipe, output, **more):
    with log.open("a") as stream:
        stream.write("began\\n")
    output.write_bytes(ENGINE[:10])
    print("building", flush=True)
    time.sleep(seconds)
    output.write_bytes(ENGINE)
    return FakeReport()

got = EngineCache(folder).get(MODEL, RECIPE, MACHINE, build)
print("new" if got.built_now else "found", flush=True)
assert got.plan == ENGINE
"""


@pytest.fixture
def start(cache: EngineCache, tmp_path: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def start(seconds: float) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", BUILD_IN_A_PROCESS, str(cache.folder), str(tmp_path / "log"), str(seconds)]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths}
        process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


class TestProcesses:
    def test_two_that_race_build_once(self, start: Any, tmp_path: Path) -> None:
        racing = [start(1.0), start(1.0)]
        ended = [process.communicate(timeout=60) for process in racing]
        assert [process.returncode for process in racing] == [0, 0], ended
        assert sorted(out.split()[-1] for out, _ in ended) == ["found", "new"]
        assert (tmp_path / "log").read_text() == "began\n"

    def test_a_killed_build_frees_the_lock_and_leaves_no_entry(
        self, start: Any, cache: EngineCache, builder: FakeBuilder
    ) -> None:
        killed = start(600)
        assert killed.stdout.readline() == "building\n"
        waiting = start(0)
        killed.send_signal(signal.SIGKILL)
        out, errors = waiting.communicate(timeout=60)
        assert (waiting.returncode, out.split()[-1]) == (0, "new"), errors
        assert files(cache) == {".engine", ".json", "lock"}  # what the killed one left was swept
        assert not cache.get(MODEL, RECIPE, MACHINE, builder).built_now


class TestFolder:
    def test_edgekit_cache_comes_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "own"))
        assert cache_folder() == tmp_path / "own" / "engines"
        monkeypatch.delenv("EDGEKIT_CACHE")
        assert cache_folder() == tmp_path / "xdg" / "edgekit" / "engines"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "edgekit" / "engines"
