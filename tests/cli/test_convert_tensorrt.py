"""`edgekit convert --to tensorrt`: engines of TensorRT-RTX, built ahead of time without a GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Digits
from tests.onnx_graphs import convolution, saved

Run = Callable[..., Any]

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return convolution(tmp_path / "conv.onnx")


def shapes(least: str, usual: str, largest: str) -> tuple[str, ...]:
    return ("--min-shapes", f"x={least}", "--opt-shapes", f"x={usual}", "--max-shapes", f"x={largest}")


def test_an_onnx_file_becomes_an_engine_with_trtexecs_flags(edgekit: Run, onnx_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    ended = edgekit(
        "convert", onnx_file, "--to", "tensorrt", "-o", output, *shapes("1x3x8x8", "2x3x8x8", "4x3x8x8"),
        "--workspace-mib", "256", "--optimization-level", "2", "--compute-capability", "SM86",
        "--compute-capability", "SM89", "--json",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    assert (ended.json["format"], ended.json["precision"]) == ("tensorrt", "fp32")
    assert ended.json["bytes"] == output.stat().st_size
    (note,) = ended.json["notes"]
    pattern = r"built by TensorRT-RTX [\d.]+ in [\d.]+ s for SM86, SM89: 1 of 1 weighted layers planned as Float"
    assert re.fullmatch(pattern, note)
    assert "build the engine: done in " in ended.stderr


def test_a_float_onnx_file_is_quantized_first(edgekit: Run, onnx_file: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(0).uniform(-1, 1, (16, 3, 8, 8)).astype(np.float32))
    argv = ("--precision", "int8", "--calibration", samples, "--compute-capability", "SM89")
    ended = edgekit("convert", onnx_file, "--to", "tensorrt", *argv, "-o", tmp_path / "x.engine", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["precision"] == "int8"
    assert any(note.endswith(" for SM89: 1 of 1 weighted layers planned as Int8") for note in ended.json["notes"])


@pytest.mark.parametrize(
    ("target", "gpu", "precision", "dtype"),
    [
        ("rtx-a2000", "SM86", "int8", "Int8"),
        pytest.param("rtx-5090", "SM120", "int8", "Int8", marks=pytest.mark.slow),
        pytest.param("t4", "SM75", "fp16", "Half", marks=pytest.mark.slow),
        pytest.param("rtx-4090", "SM89", "fp32", "Float", marks=pytest.mark.slow),
    ],
)
def test_a_keras_model_becomes_an_engine_of_a_target(
    edgekit: Run, digits: Digits, tmp_path: Path, target: str, gpu: str, precision: str, dtype: str
) -> None:
    argv = ("--precision", precision, "--calibration", digits.train_file, "--target", target)
    ended = edgekit("convert", digits.model, "--to", "tensorrt", *argv, "-o", tmp_path / "x.engine", "--json")
    assert ended.exit_code == 0, ended.stderr
    note = next(note for note in ended.json["notes"] if note.startswith("built by"))
    assert re.search(rf" for {gpu}: (\d+) of \1 weighted layers planned as {dtype}$", note)


def test_int8_with_the_middle_of_uint8_is_mended(edgekit: Run, tmp_path: Path) -> None:
    from tests.converters.test_onnx_rules import conv

    path = saved(conv(z=128, dtype="uint8"), tmp_path / "uint8.onnx")
    ended = edgekit("convert", path, "--to", "tensorrt", "-o", tmp_path / "x.engine", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["precision"] == "int8"
    assert ended.json["notes"][0] == "2 moved from uint8 with zero point 128 to int8 with 0"
    assert ended.json["notes"][1].endswith(
        " for SM80, SM86, SM89, SM120 and later: 1 of 1 weighted layers planned as Int8"
    )


def test_a_broken_rule_stops_it(edgekit: Run, tmp_path: Path) -> None:
    from tests.converters.test_onnx_rules import conv

    path = saved(conv(z=7), tmp_path / "bad.onnx")
    ended = edgekit("convert", path, "--to", "tensorrt", "-o", tmp_path / "x.engine")
    assert ended.exit_code == 2
    assert "TensorRT would not take mended.onnx: zero-point: 'q_xd': its zero point is 7" not in ended.stderr
    assert "TensorRT would not take bad.onnx: zero-point: 'q_xd': its zero point is 7; quantize" in ended.stderr
    assert not (tmp_path / "x.engine").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--min-shapes", "x=1by3"), "--min-shapes is 'x=1by3', expected INPUT=AxBxC, for example image=1x3x224x224"),
        (("--min-shapes", "x=1x3x8x8"), "--opt-shapes and --max-shapes of input 'x' missing: give its least, usual"),
        (shapes("4x3x8x8", "2x3x8x8", "1x3x8x8"), "expected 0 < min <= opt <= max"),
        (shapes("1x3x8", "1x3x8", "1x3x8"), "the profile: min of 'x' is (1, 3, 8) of rank 3, expected rank 4"),
        (("--dla-core", "0"), "has no dla_core 0: it is an option of TensorRT for Jetsons and data centers"),
        (("--version-compatible",), "has no version_compatible: it is an option of TensorRT for Jetsons"),
        (("--hardware-compatibility", "ampere-plus"), "has no hardware_compatibility 'ampere-plus'"),
        (("--hardware-compatibility", "ampere"), "hardware_compatibility is 'ampere'; did you mean 'ampere-plus'?"),
        (("--optimization-level", "9"), "settings of --to tensorrt: optimization_level is 9, expected 0 to 5"),
        (("--timing-cache", "cache"), "TensorRT-RTX has no timing cache: leave timing_cache_file out"),
        (("--compute-capability", "SM87"), "builds for no GPU of 'SM87'; it knows SM75, "),
        (("--target", "jetson-thor"), "--target jetson-thor builds its engine itself: convert --to onnx for it"),
        (("--target", "rtx-4091"), "unknown target 'rtx-4091'; did you mean 'rtx-4090'?"),
        (("--precision", "int8"), "onnx int8 of 'conv' needs calibration samples of 'x', or a model trained with"),
        (("--block-size", "32"), "settings of --to tensorrt: unknown key 'block_size'"),
        (("--state", "variables"), "--state is for --to tflite and onnx, not tensorrt: leave it out"),
    ],
)
def test_a_wrong_request(edgekit: Run, onnx_file: Path, tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("convert", onnx_file, "--to", "tensorrt", "-o", tmp_path / "x.engine", *argv)
    assert ended.exit_code == 2
    assert message in ended.stderr.splitlines()[-1]
    assert [item.name for item in tmp_path.iterdir()] == ["conv.onnx"]


def test_flags_of_engines_are_for_engines(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    ended = edgekit("convert", digits.model, "--to", "onnx", "--dla-core", "0", "-o", tmp_path / "x.onnx")
    assert ended.exit_code == 2
    assert "settings of --to onnx: unknown key 'dla_core'" in ended.stderr


def test_an_engine_tells_nothing_without_its_gpu(edgekit: Run, tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(b"plan")
    ended = edgekit("inspect", tmp_path / "x.engine")
    assert ended.exit_code == 2
    assert "x.engine: an engine tells what is inside only to TensorRT on its GPU: give the ONNX file" in ended.stderr
