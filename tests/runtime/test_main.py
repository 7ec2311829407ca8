from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtime.__main__ import main
from edgekit.runtime.arrays import read_npz, write_npz
from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack, parts


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*argv: object) -> tuple[int, list[dict[str, Any]]]:
        code = main([str(word) for word in argv])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return ask


def test_probe(ask: Any) -> None:
    code, (reply,) = ask("probe")
    assert code == 0
    assert reply["event"] == "result"
    assert reply["cpus"] >= 1
    assert [engine["name"] for engine in reply["engines"]] == ["tensorrt", "tensorrt-rtx", "litert", "onnxruntime"]


def test_run(ask: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "in.npz", {"image": IMAGES})
    argv = ("run", tiny_bundle, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    code, (reply,) = ask(*argv, "--variant", "onnx-fp32")
    assert (code, reply["event"], reply["choice"]["variant"]) == (0, "result", "onnx-fp32")
    np.testing.assert_allclose(read_npz(tmp_path / "out.npz")["scores"], expected(IMAGES), atol=1e-6)


def test_bench_of_all_in_turns(ask: Any, tiny_bundle: Path) -> None:
    code, (progress, reply) = ask("bench", tiny_bundle, "--all", "--runs=3", "--warmup=0", "--threads=2")
    assert code == 0
    assert progress["event"] == "progress"
    results = {result["choice"]["variant"]: result for result in reply["results"]}
    assert list(results) == ["tflite-int8", "tflite-fp32", "onnx-fp32"]
    assert all(len(result["timing"]["samples_ms"]) == 3 for result in results.values())
    assert all(result["choice"]["threads"] == 2 for result in results.values())


def test_bench_of_the_best(ask: Any, tiny_bundle: Path) -> None:
    _, (*_, reply) = ask("bench", tiny_bundle, "--runs=1")
    assert [result["choice"]["variant"] for result in reply["results"]] == ["tflite-int8"]


def test_golden(ask: Any, tiny_bundle: Path) -> None:
    code, (*progress, reply) = ask("golden", tiny_bundle, "--all")
    assert code == 0
    assert [event["event"] for event in progress] == ["progress"] * 3
    assert [result["passed"] for result in reply["results"]] == [True, True, True]


def test_verify(ask: Any, tiny_bundle: Path) -> None:
    code, (reply,) = ask("verify", tiny_bundle)
    assert code == 0
    assert len(reply["members"]) == 4


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["verify", "none.edgekit"], "BundleError"),
        (["bench", "BUNDLE", "--variant", "none"], "BundleError"),
        (["bench", "BUNDLE", "--runs=0"], "ConfigError"),
        (["run", "BUNDLE", "--input", "none.npz", "--output", "o.npz"], "DataError"),
        (["nonsense"], "ConfigError"),
        ([], "ConfigError"),
    ],
)
def test_an_error_is_the_last_event(ask: Any, tiny_bundle: Path, argv: list[str], kind: str) -> None:
    code, events = ask(*(str(tiny_bundle) if word == "BUNDLE" else word for word in argv))
    assert code == 2
    assert (events[-1]["event"], events[-1]["type"]) == ("error", kind)
    assert events[-1]["message"]


def test_a_variant_whose_engine_is_missing_is_rejected_beside_the_others(ask: Any, tmp_path: Path) -> None:
    newer = Part("onnx", "fp32", float_onnx(), "onnxruntime", engine_least_version="99")
    code, (*_, reply) = ask("golden", pack(tmp_path, (parts()[1], newer)), "--all")
    assert code == 0
    assert [result["variant"] for result in reply["results"]] == ["tflite-int8"]
    (rejected,) = reply["rejected"]
    assert rejected["variant"] == "onnx-fp32"
    assert "variant 'onnx-fp32' does not run here: onnxruntime" in rejected["reason"]
