"""Which of two files that meet the budget is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit import fixing
from edgekit.errors import ConfigError
from edgekit.runtime.timing import Timing
from edgekit.widening import Attempt


def test_an_engine_cannot_be_fixed() -> None:
    sides = SimpleNamespace(
        first=None,
        second=SimpleNamespace(label="a.edgekit#rtx"),
        looked_into=lambda: SimpleNamespace(format="tensorrt"),
    )
    with pytest.raises(ConfigError, match=r"a\.edgekit#rtx is tensorrt: --fix is for tflite and onnx files"):
        fixing._check(sides)


@pytest.mark.parametrize(
    ("smaller_ms", "larger_ms", "written"),
    [(1.0, 0.1, "fp32"), (1.0, 0.9, "int16x8"), (1.0, 2.0, "int16x8")],
)
def test_the_smaller_file_unless_the_other_is_clearly_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smaller_ms: float, larger_ms: float, written: str
) -> None:
    given = tmp_path / "given.tflite"
    given.write_bytes(bytes(7))
    milliseconds = {"before": 0.5, "smaller": smaller_ms, "larger": larger_ms}
    timings = {name: Timing(10, 100, median, median, median, (median,)) for name, median in milliseconds.items()}
    monkeypatch.setattr(fixing, "time_files", lambda files, *_, **__: {name: timings[name] for name in files})
    smaller, larger = (
        Attempt(name, ("a",), 0.9, True, size, file=None) for name, size in (("int16x8", 8), ("fp32", 9))
    )
    sides = SimpleNamespace(looked_into=lambda: SimpleNamespace(path=str(given)))
    rows = SimpleNamespace(first=lambda count: SimpleNamespace(inputs={}))
    best, other, cost = fixing._choose(sides, smaller, larger, rows)
    assert (best.precision, other.precision) == (written, {"fp32": "int16x8", "int16x8": "fp32"}[written])
    assert (cost.bytes_before, cost.bytes_after, cost.before) == (7, best.bytes, timings["before"])
    assert cost.after == timings["smaller" if best is smaller else "larger"] != cost.other
    alone = fixing._choose(sides, smaller, None, rows)
    assert alone[:2] == (smaller, None)
    assert alone[2].other is None
