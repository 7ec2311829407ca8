"""Latency of files on a device that is really there, and on one that goes away."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.devices import Transport, opened_device
from edgekit.errors import DeviceCrashError, DeviceError, DeviceFullError, OfflineError, UnauthorizedError
from edgekit.progress import LoggedProgress
from edgekit.search import latency
from edgekit.search.latency import PLAIN, Candidate, Stopwatch, merged
from edgekit.search.store import Store
from tests.devices.sshd import make_board, why_not
from tests.tiny_models import pack


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def candidates(bundle: Path) -> tuple[Candidate, Candidate]:
    with Bundle.open(bundle) as opened:
        first, second = [item.id for item in opened.manifest.variants if item.format == "tflite"][:2]
    return Candidate(bundle, first), Candidate(bundle, second)


def stopwatch(store: Path, *, memory: bool = False, wait_s: float = 0.0) -> Stopwatch:
    return Stopwatch("local:", Store(store), memory=memory, wait_s=wait_s, progress=LoggedProgress())


class Flaky:
    """A device that is away the first few times, and counts who asks."""

    def __init__(self, away: int, error: type[DeviceError] = OfflineError) -> None:
        self.away, self.error, self.asked = away, error, 0

    @contextmanager
    def __call__(self, url: str) -> Iterator[Transport]:
        self.asked += 1
        if self.asked <= self.away:
            raise self.error(f"{url}: nothing answers")
        with opened_device(url) as device:
            yield device


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    device = Flaky(0)
    monkeypatch.setattr(latency, "opened_device", device)
    monkeypatch.setattr(latency, "FIRST_WAIT_S", 0.01)
    return device  # type: ignore[return-value]


def test_candidates_and_the_plain_file_take_turns(
    tmp_path: Path, candidates: tuple[Candidate, Candidate], flaky: Flaky
) -> None:
    plain, other = candidates
    clock = stopwatch(tmp_path, memory=True)
    found = clock.measure(plain, {"a": other, "same": plain})
    for said in found.values():
        assert said.problem is None
        assert said.median_ms is not None
        assert said.p90_ms is not None
        assert 0 < said.median_ms <= said.p90_ms
        assert said.plain_median_ms == found["a"].plain_median_ms
        assert said.peak_rss_bytes is not None
        assert 10_000_000 < said.peak_rss_bytes < 1_000_000_000, "a process with numpy and an engine"
    assert flaky.asked == 1
    assert clock.measure(plain, {"b": other})["b"] == found["a"], "known by content"
    assert flaky.asked == 1


def test_a_device_that_comes_back_is_waited_for(
    tmp_path: Path, candidates: tuple[Candidate, Candidate], flaky: Flaky
) -> None:
    flaky.away = 2
    found = stopwatch(tmp_path, wait_s=30).measure(candidates[0], {"a": candidates[1]})
    assert found["a"].ratio is not None
    assert flaky.asked == 3


def test_a_device_that_stays_away_ends_the_search(
    tmp_path: Path, candidates: tuple[Candidate, Candidate], flaky: Flaky
) -> None:
    flaky.away = 1000
    with pytest.raises(OfflineError, match="local:: nothing answers"):
        stopwatch(tmp_path, wait_s=0.05).measure(candidates[0], {"a": candidates[1]})
    assert flaky.asked > 1


def test_a_device_that_does_not_let_us_in_is_not_waited_for(
    tmp_path: Path, candidates: tuple[Candidate, Candidate], flaky: Flaky
) -> None:
    flaky.away, flaky.error = 1000, UnauthorizedError
    with pytest.raises(UnauthorizedError):
        stopwatch(tmp_path, wait_s=30).measure(candidates[0], {"a": candidates[1]})
    assert flaky.asked == 1


def test_a_file_that_crashes_the_runtime_there_is_found_and_not_waited_for(
    tmp_path: Path, candidates: tuple[Candidate, Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Stopwatch._on_device

    def crashing(self: Stopwatch, plain: Candidate, candidates: Mapping[str, Candidate]) -> dict[str, latency.Latency]:
        if "bad" in candidates:
            raise DeviceCrashError("the runtime ended by signal 11")
        return whole(self, plain, candidates)

    monkeypatch.setattr(Stopwatch, "_on_device", crashing)
    plain, other = candidates
    found = stopwatch(tmp_path, wait_s=30).measure(plain, {"good": other, "bad": replace(other, variant=plain.variant)})
    assert found["good"].ratio is not None
    assert found["bad"].problem == "the runtime ended by signal 11"


def test_a_full_device_is_not_waited_for(tmp_path: Path, candidates: tuple[Candidate, Candidate], flaky: Flaky) -> None:
    flaky.away, flaky.error = 1000, DeviceFullError
    with pytest.raises(DeviceFullError):
        stopwatch(tmp_path, wait_s=30).measure(candidates[0], {"a": candidates[1]})
    assert flaky.asked == 1


def test_a_board_over_ssh_that_is_away_and_comes_back(tmp_path: Path, candidates: tuple[Candidate, Candidate]) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    board = make_board(tmp_path)
    back = threading.Timer(2.0, board.start)
    clock = Stopwatch(
        board.url(python=sys.executable), Store(tmp_path / "store"), memory=False, wait_s=60, progress=LoggedProgress()
    )
    back.start()
    try:
        found = clock.measure(candidates[0], {"a": candidates[1]})
    finally:
        back.join()
        board.stop()
    assert found["a"].ratio is not None


def test_one_bundle_of_several(tmp_path: Path, candidates: tuple[Candidate, Candidate]) -> None:
    plain, other = candidates
    made = merged({PLAIN: plain, "full-1": other, "full-2": other}, tmp_path / "trials-0.edgekit")
    with Bundle.open(made) as bundle, Bundle.open(other.bundle) as before:
        bundle.verify()
        assert [item.id for item in bundle.manifest.variants] == [PLAIN, "full-1", "full-2"]
        mine, theirs = bundle.variant("full-2"), before.variant(other.variant)
        assert bundle.read(mine.member.path) == before.read(theirs.member.path)
