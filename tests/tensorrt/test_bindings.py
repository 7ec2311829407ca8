"""Which TensorRT is taken, and how far its nested phases are."""

from __future__ import annotations

import pytest

from edgekit.errors import BuildError
from edgekit.tensorrt import bindings
from edgekit.tensorrt.bindings import Phases, find_package, load, release


@pytest.mark.parametrize(
    ("installed", "ahead_of_time", "expected"),
    [
        ({"tensorrt", "tensorrt_rtx"}, False, "tensorrt"),
        ({"tensorrt", "tensorrt_rtx"}, True, "tensorrt_rtx"),
        ({"tensorrt_rtx"}, False, "tensorrt_rtx"),
        ({"tensorrt"}, True, "tensorrt"),  # which then refuses the compute capabilities
    ],
)
def test_the_package_to_build_with(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], ahead_of_time: bool, expected: str
) -> None:
    monkeypatch.setattr(bindings, "find_spec", lambda name: name if name in installed else None)
    assert find_package(ahead_of_time=ahead_of_time) == expected


def test_without_any_it_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r'JetPack .*; for RTX GPUs pip install "edgekit\[tensorrt-rtx\]"'):
        find_package()


def test_libraries_that_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(bindings.importlib, "import_module", no_library)
    with pytest.raises(BuildError, match=r"^TensorRT cannot be loaded: libnvinfer\.so\.10: cannot open"):
        load("tensorrt")


def test_a_release() -> None:
    assert release("1.7.1.116") == "1.7.1"
    assert release("10.3.0") == "10.3.0"


def test_nested_phases_are_a_step_of_their_parent() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    assert phases.step("build", 0) == 0.25
    phases.start("inner", "build", 2)
    assert phases.step("inner", 0) == 0.375
    phases.start("inner", "build", 10)  # begun again: what was reached stays
    assert phases.step("inner", 0) == 0.375
    assert phases.finish("inner") == 0.375
    assert phases.step("build", 3) == 1.0


def test_the_end_is_everything() -> None:
    phases = Phases()
    phases.start("build", None, 6)
    phases.step("build", 0)
    assert phases.finish("build") == 1.0


def test_a_phase_that_nobody_started_is_no_error() -> None:
    assert 0 < Phases().step("unknown", 0) <= 1.0
