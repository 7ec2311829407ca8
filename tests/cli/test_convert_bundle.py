from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.convert_bundle import SETTINGS
from tests.disk import below_a_file
from tests.tiny_models import IMAGES, float_onnx

Run = Callable[..., Any]


def test_a_bundle_becomes_a_model_of_triton(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    repo = tmp_path / "model_repository"
    argv = ("convert", tiny_bundle, "--to", "triton", "-o", repo)
    ended = edgekit(*argv, "--gpus", "0,1", "--max-batch", 4, "--preferred-batch", "2,4")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"{repo / 'tiny'}: onnx-fp32 for triton; the only variant that Triton runs",
        "  1/model.onnx",
        "  config.pbtxt",
        "  warmup/input-0.raw",
        "left out: tflite-fp32: Triton has no backend of its own for tflite",
        "left out: tflite-int8: Triton has no backend of its own for tflite",
    ]
    assert (repo / "tiny" / "1" / "model.onnx").read_bytes() == float_onnx()
    assert (repo / "tiny" / "warmup" / "input-0.raw").read_bytes() == IMAGES[0].tobytes()
    config = (repo / "tiny" / "config.pbtxt").read_text()
    for line in ("gpus: [ 0, 1 ]", "max_batch_size: 4", "preferred_batch_size: [ 2, 4 ]"):
        assert line in config
    ended = edgekit(*argv, "--gpus", "0,1", "--max-batch", 4, "--preferred-batch", "2,4", "--json")
    assert ended.json == {
        "output": str(repo),
        "format": "triton",
        "folder": str(repo / "tiny"),
        "files": [str(repo / "tiny" / name) for name in ("2/model.onnx", "config.pbtxt", "warmup/input-0.raw")],
        "variant": "onnx-fp32",
        "reason": "the only variant that Triton runs",
        "left_out": [
            {"variant": name, "reason": "Triton has no backend of its own for tflite"}
            for name in ("tflite-fp32", "tflite-int8")
        ],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--parallel", "pipeline"),
            "--parallel is 'pipeline', which needs an engine that runs the parts of one model",
        ),
        (("--parallel", "pipeline"), "see 'Models too big for one GPU' in docs/triton.md"),
        (("--parallel", "dada"), "--parallel is 'dada'; did you mean 'data'?"),
        (("--gpus", "0,x"), "--gpus is '0,x', expected whole numbers with commas between, for example 0,1"),
        (("--gpus", ""), "--gpus is '', expected whole numbers"),
        (("--gpus", "-1"), "--gpus is '-1', expected whole numbers"),
        (("--gpus", "1,1"), "--gpus is 1,1, expected different numbers from 0 on"),
        (("--gpus", "0", "--cpu"), "--gpus is for GPUs and --cpu says none: leave one of them out"),
        (("--tensorrt-accelerator", "--cpu"), "--tensorrt-accelerator is for GPUs and --cpu says none"),
        (("--instances", "0"), "--instances is 0, expected 1 or more"),
        (("--instances", "two"), "argument --instances: invalid int value: 'two'"),
        (("--max-batch", "0"), "--max-batch is 0, expected 1 or more"),
        (
            ("--max-batch", "4", "--preferred-batch", "2,8"),
            "--preferred-batch is 8, expected at most 4, which is --max",
        ),
        (("--max-batch", "1", "--max-queue-delay-us", "9"), "--max-queue-delay-us is given, but --max-batch is 1"),
        (("--preferred-batch", "0"), "--preferred-batch is 0, expected 1 or more"),
        (("--max-queue-delay-us", "-1"), "--max-queue-delay-us is -1, expected 0 or more"),
        (("--version-folder", "0"), "--version-folder is 0, expected 1 or more"),
        (("--version-policy", "newest"), "--version-policy is 'newest', expected all, latest:N or specific:N,M"),
        (("--name", "a/b"), "name 'a/b' cannot be a Triton model's"),
        (("--variant", "tflite-int8"), "variant 'tflite-int8' cannot be served: Triton has no backend of its own for"),
        (("--precision", "int8"), "no variant in precision int8 that Triton runs; Triton runs onnx-fp32 of it"),
        (("--calibration", "c.npz"), "--calibration is not for --to triton: leave it out"),
        (("--npu", "qualcomm:SM8650"), "--npu is not for --to triton: leave it out"),
        (("--keep-float", "*"), "--keep-float is not for --to triton: leave it out"),
        (("--allow-code",), "--allow-code is not for --to triton: leave it out"),
    ],
)
def test_a_wrong_request(edgekit: Run, tiny_bundle: Path, tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("convert", tiny_bundle, "--to", "triton", "-o", tmp_path / "repo", *argv)
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert message in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_cannot_be_batched(edgekit: Run, tmp_path: Path) -> None:
    from tests.tiny_models import Part, pack

    bundle = pack(tmp_path, (Part("onnx", "fp32", float_onnx(1), "onnxruntime"),))
    ended = edgekit("convert", bundle, "--to", "triton", "-o", tmp_path / "repo", "--max-batch", 4)
    assert ended.exit_code == 2
    assert "--max-batch is given, but variant 'onnx-fp32' has a fixed batch, so Triton cannot batch" in ended.stderr
    assert not (tmp_path / "repo").exists()


def test_what_is_no_bundle(edgekit: Run, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"not a zip")
    for name, message in (
        ("model.keras", "model.keras: not an edgekit bundle, or cut short"),
        ("none.edgekit", "none.edgekit: no such file; give the path of an .edgekit bundle"),
    ):
        ended = edgekit("convert", tmp_path / name, "--to", "triton", "-o", tmp_path / "repo", "--json")
        assert ended.exit_code == 2
        assert ended.json["error"]["type"] == "BundleError"
        assert message in ended.json["error"]["message"]
    assert not (tmp_path / "repo").exists()


def test_a_folder_that_nobody_can_make(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = edgekit("convert", tiny_bundle, "--to", "triton", "-o", below_a_file(tmp_path) / "repo")
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert "cannot write" in ended.stderr


@pytest.mark.parametrize(
    "argv", [("--gpus", "0"), ("--cpu",), ("--replace",), ("--variant", "onnx-fp32"), ("--require-signature",)]
)
def test_flags_of_triton_are_for_triton(edgekit: Run, tmp_path: Path, argv: tuple[str, ...]) -> None:
    ended = edgekit("convert", "none.keras", "--to", "tflite", "-o", tmp_path / "x.tflite", *argv)
    assert ended.exit_code == 2
    assert f"{argv[0]} is not for --to tflite: leave it out" in ended.stderr


def test_every_flag_is_in_the_guide() -> None:
    guide = Path(__file__).parents[2].joinpath("docs", "triton.md").read_text()
    assert [flag for flag in SETTINGS if f"`--{flag.replace('_', '-')}" not in guide] == []
