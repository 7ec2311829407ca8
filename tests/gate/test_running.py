from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices.conditions import Condition
from edgekit.errors import ConfigError, LinkError
from edgekit.gate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateSettings,
    Guard,
    TooHotError,
    find_floor,
    measure_floor,
    run_gate,
    save_floor,
)
from tests.gate_fakes import VARIANT, MadeUp
from tests.tiny_models import parts


def cool() -> Guard:
    return Guard(Condition)


class Weather:
    """Conditions one after the other; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)

    def __call__(self) -> Condition:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return Condition(thermal_status=status)


def test_a_slower_bundle_fails_with_all_its_samples() -> None:
    result = run_gate(MadeUp(10.0, spread=0.02), MadeUp(11.5, spread=0.02, seed=1), guard=cool())
    assert result.verdict == FAIL
    assert result.reason.startswith("slower than allowed: 1")
    assert len(result.samples) == 10
    assert {pair.first for pair in result.samples} == {"baseline", "candidate"}  # in random order
    assert all(len(pair.baseline_ms) == len(pair.candidate_ms) == result.runs for pair in result.samples)
    assert (result.choice.variant, result.baseline) == (VARIANT, "tiny 1.0.0")
    assert result.candidate_ms == pytest.approx(11.5, rel=0.03)


def test_an_equal_bundle_passes() -> None:
    assert run_gate(MadeUp(10.0, spread=0.02), MadeUp(10.0, spread=0.02, seed=1), guard=cool()).verdict == PASS


def test_a_fresh_process_for_each_with_its_warm_up() -> None:
    baseline, candidate = MadeUp(10.0), MadeUp(10.0)
    result = run_gate(baseline, candidate, guard=cool(), threads=2)
    assert len(baseline.calls) == len(candidate.calls) == 11  # the first of each is dropped
    assert all(call == {"variant": VARIANT, "warmup": 20, "runs": 50, "threads": 2} for call in baseline.calls)
    assert result.warmup == 20


def test_short_runs_are_many() -> None:
    result = run_gate(MadeUp(1.0), MadeUp(1.0), guard=cool())
    assert result.runs == pytest.approx(300, rel=0.02)


def test_what_cannot_be_said_is_measured_longer_then_left_open() -> None:
    settings = GateSettings(pairs=5, most_pairs=15)
    result = run_gate(MadeUp(10.0, spread=0.4), MadeUp(10.5, spread=0.4, seed=1), guard=cool(), settings=settings)
    assert result.verdict == INCONCLUSIVE
    assert len(result.samples) == 15
    assert "too uncertain to say: measure on a quieter device, or allow more pairs" in result.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": ()}, "a variant that both bundles have; the baseline has none, the one under test tflite-int8"),
        ({"name": "watch"}, "the baseline is a bundle of 'watch', the one under test of 'tiny'"),
    ],
)
def test_a_baseline_that_cannot_be_compared(change: dict[str, Any], words: str) -> None:
    baseline = MadeUp(10.0)
    baseline.manifest = replace(baseline.manifest, **change)
    with pytest.raises(ConfigError, match=words):
        run_gate(baseline, MadeUp(10.0), guard=cool())


def test_a_variant_that_is_new_is_not_compared() -> None:
    baseline, candidate = MadeUp(10.0), MadeUp(10.0)
    candidate.manifest = replace(candidate.manifest, variants=tuple(part.variant() for part in parts()))
    candidate.best = "tflite-fp32"
    result = run_gate(baseline, candidate, guard=cool())
    assert (result.verdict, result.choice.variant) == (PASS, VARIANT)
    assert [call["variant"] for call in candidate.calls[:2]] == [None, VARIANT]


def test_a_device_that_goes_ends_it() -> None:
    candidate = MadeUp(10.0)

    def vanish() -> None:
        if len(candidate.calls) == 4:
            raise LinkError("the link was cut")

    candidate.before = vanish
    with pytest.raises(LinkError):
        run_gate(MadeUp(10.0), candidate, guard=cool())


def test_the_lease_is_kept_alive() -> None:
    signs: list[None] = []
    run_gate(MadeUp(10.0), MadeUp(10.0), guard=cool(), alive=lambda: signs.append(None))
    assert len(signs) == 10


class TestHeat:
    def test_a_pair_in_the_heat_does_not_count_and_the_device_cools_down(self) -> None:
        slept: list[float] = []
        # the guard's own look, then before and after each pair
        guard = Guard(Weather(0, 0, 2, 3, 2, 0), sleep=slept.append)
        result = run_gate(MadeUp(10.0), MadeUp(10.0), guard=guard)
        assert result.verdict == PASS
        assert [pair.dropped for pair in result.samples[:2]] == ["thermal status 2", None]
        assert len(result.samples) == 11
        assert slept == [5.0, 5.0]

    def test_one_that_stays_hot_is_left_open(self) -> None:
        guard = Guard(Weather(0, 3), cool_s=20, sleep=lambda _: None)
        result = run_gate(MadeUp(10.0), MadeUp(10.0), guard=guard)
        assert (result.verdict, result.estimate, result.samples) == (INCONCLUSIVE, None, ())
        assert result.reason == "the device stays throttled (thermal status 3): cool it, or give it more time"

    def test_calibration_does_not_go_on_in_it(self) -> None:
        with pytest.raises(TooHotError, match="stays throttled") as caught:
            measure_floor(MadeUp(10.0), guard=Guard(Weather(0, 3), cool_s=5, sleep=lambda _: None))
        assert caught.value.exit_code == 3

    def test_a_frequency_that_fell(self) -> None:
        caps = iter([Condition(cap_hz=4000), Condition(cap_hz=3000), Condition(cap_hz=4000)])
        told: list[str] = []
        guard = Guard(lambda: next(caps), sleep=lambda _: None, progress=told.append)
        assert guard.wait_until_cool().cap_hz == 4000
        assert told == ["the CPUs may reach 75% of the frequency that they might before: cooling down, 600 s at most"]


class TestFloors:
    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))

    def test_by_a_a_and_kept_for_the_device(self) -> None:
        found = measure_floor(MadeUp(10.0, spread=0.2), guard=cool())
        saved = save_floor("ssh://nano", found)
        assert (saved.pairs, saved.variant, saved.bundle) == (20, VARIANT, "tiny 1.0.0")
        assert saved.floor > 0.02
        assert find_floor("ssh://nano") == saved
        assert find_floor("ssh://nano2") is None

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        save_floor("local:a", measure_floor(MadeUp(10.0), guard=cool()))
        (path,) = (tmp_path / "floors").iterdir()
        path.write_text("{")
        with pytest.raises(ConfigError, match=r"no floor of a device .*remove it, and calibrate again"):
            find_floor("local:a")
        path.write_text('{"device":"local:a","floor":0.0,"bundle":"","variant":"","pairs":20,"measured":""}')
        with pytest.raises(ConfigError, match=r"floor is 0\.0, expected 0\.02 or more"):
            find_floor("local:a")
