from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import util

import pytest

from edgekit.errors import EngineError
from edgekit.runtime import engine_litert, engines
from edgekit.runtime.engines import EngineStatus, find_engines, installed_version, load_engine, why_not
from tests.tiny_models import Part


def test_engines_are_found_here() -> None:
    found = find_engines()
    assert list(found) == ["tensorrt", "tensorrt-rtx", "litert", "onnxruntime"]
    assert found["litert"].package == "ai-edge-litert"
    assert found["onnxruntime"].package == "onnxruntime"


def test_an_unknown_engine() -> None:
    with pytest.raises(EngineError, match=r"no engine 'litrt'; did you mean 'litert'\?"):
        load_engine("litrt")


def test_a_module_without_package_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_version("json", ()) == ("json", "0 (no package metadata)")
    assert installed_version("no_such_module_anywhere", ()) is None


@pytest.mark.parametrize(
    ("present", "package", "applies"),
    [
        (("ai_edge_litert", "tensorflow"), "ai_edge_litert", True),
        (("tflite_runtime", "tensorflow"), "tflite_runtime", False),
        (("tensorflow",), "tensorflow", False),
        ((), None, True),
    ],
)
def test_litert_or_its_stand_ins(
    monkeypatch: pytest.MonkeyPatch, present: Sequence[str], package: str | None, applies: bool
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: object() if name in present else None)
    monkeypatch.setattr(engine_litert, "_DISTRIBUTIONS", dict.fromkeys(engine_litert._HOMES, ()))
    status = engine_litert.find()
    assert (status.package, status.least_version_applies) == (package, applies)
    assert (status.version is None) == (package is None)


def test_an_engine_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EngineError, match=r"ai_edge_litert cannot be imported"):
        engine_litert.open_model(b"", (), (), threads=1)


def test_why_not() -> None:
    variant = Part("tflite", "fp32", b"", "litert", engine_least_version="1.4").variant()

    def status(version: str | None) -> dict[str, EngineStatus]:
        return {"litert": EngineStatus("litert", "ai-edge-litert", version, "pip install it", True)}

    assert why_not(variant, status("1.4.0")) is None
    assert why_not(variant, status("1.3.9")) == "ai-edge-litert 1.3.9 is older than 1.4: pip install it"
    assert why_not(variant, status(None)) == "engine 'litert' is not installed: pip install it"
    assert why_not(variant, {}) == "this edgekit has no engine 'litert'"
    assert engines.ENGINES == ("tensorrt", "tensorrt-rtx", "litert", "onnxruntime")
