"""Variants side by side, with converters that only pretend."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Lock

import pytest

from edgekit import converting
from edgekit.conversion import Artifact, Inspection, Source
from edgekit.converting import convert_all, converters_for
from edgekit.data import Data
from edgekit.errors import ConfigError, ConversionError
from edgekit.planning import plan
from edgekit.progress import LoggedProgress
from edgekit.tensors import Array

PLAN = plan({"local": ["fp32", "fp16", "int8"]})
ROOT = Path(__file__).parents[1]
NO_DATA = Data({}, None, "nothing")


@dataclass(frozen=True)
class Pretender:
    """A converter that notes how many of its kind work at a time."""

    format: str
    crowd: list[int] = field(default_factory=list)
    meet: Barrier | None = None
    broken: str | None = None
    lock: Lock = field(default_factory=Lock)
    suffix: str = ".x"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")

    def with_options(self, options: object, *, where: str) -> Pretender:
        return self

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        if precision == self.broken:
            raise ConversionError(f"{self.format}-{precision} is broken")
        with self.lock:
            self.crowd.append(1)
            inside = len(self.crowd)
        if self.meet is not None:
            self.meet.wait(timeout=20)
        time.sleep(0.01)
        with self.lock:
            self.crowd.pop()
        return Artifact(self.format, precision, output, (), (), "none", "1", notes=(str(inside),))

    def inspect(self, path: Path) -> Inspection:
        return Inspection(self.format, (), (), 0, 0, ())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "float").write_bytes(b"x" * 100)
    return Source("net", (), (), tmp_path / "float", None, tmp_path)


def test_variants_of_one_format_meet_and_keep_the_plans_order(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    meet = Barrier(6)  # all are in at once, or it breaks
    converters = {name: Pretender(name, meet=meet) for name in PLAN.formats}
    made, refused = convert_all(source, PLAN, converters, NO_DATA, LoggedProgress())
    assert [item.planned for item in made] == list(PLAN.variants)
    assert not refused


@pytest.mark.parametrize("size", [10, 100])
def test_the_estimate_of_memory_covers_what_was_measured(size: int) -> None:
    figures = json.loads((ROOT / "examples" / "figures" / "tflite-memory.json").read_text())
    measured = (
        figures[f"{size} M, edgekit convert .keras"]["peak_mib"] - figures["bare TensorFlow and Keras"]["peak_mib"]
    )
    estimate = converting.cost_bytes("tflite", 4 * figures[f"{size} M, parameters"])
    assert measured * (1 << 20) <= estimate < converting.cost_bytes("another", 4 * figures[f"{size} M, parameters"])


def test_too_little_memory_means_one_at_a_time(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    monkeypatch.setattr(converting, "available_bytes", lambda: 1)
    converters = {name: Pretender(name) for name in PLAN.formats}
    made, _ = convert_all(source, PLAN, converters, NO_DATA, LoggedProgress())
    assert {item.artifact.notes for item in made} == {("1",)}


def test_a_candidate_that_cannot_be_made_is_left_out_with_the_reason(source: Source) -> None:
    automatic = plan({"local": "auto"})
    converters = {name: Pretender(name, broken="fp16") for name in automatic.formats}
    made, refused = convert_all(source, automatic, converters, NO_DATA, LoggedProgress())
    assert "tflite-int8" in [item.planned.id for item in made]
    assert refused == {"tflite-fp16": "tflite-fp16 is broken", "onnx-fp16": "onnx-fp16 is broken"}


def test_a_failure_ends_the_build(source: Source) -> None:
    converters = {name: Pretender(name, broken="fp16") for name in PLAN.formats}
    with pytest.raises(ConversionError, match="-fp16 is broken"):
        convert_all(source, PLAN, converters, NO_DATA, LoggedProgress())


def test_settings_of_a_format_that_nobody_takes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[convert.onnx\]: no target of this build takes 'onnx'; known: tflite"):
        converters_for(plan({"android-arm64": None}), {"onnx": {}})
    with pytest.raises(ConfigError, match=r"\[convert.tflte\]: .*; did you mean 'tflite'\?"):
        converters_for(plan({"android-arm64": None}), {"tflte": {}})


def test_settings_reach_their_converter() -> None:
    from edgekit_tflite import TFLiteOptions

    (converter,) = converters_for(plan({"android-arm64": None}), {"tflite": {"algorithm": "mse"}}).values()
    assert vars(converter)["options"] == TFLiteOptions(algorithm="mse")
