from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtime.arrays import read_npz, write_npz
from tests.tiny_models import IMAGES, expected

Run = Callable[..., Any]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_npz(tmp_path / "in.npz", {"x": IMAGES, "y": np.zeros(8)})
    return tmp_path / "in.npz"


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
def test_outputs_are_written_under_their_names(
    edgekit: Run, tiny_bundle: Path, inputs: Path, tmp_path: Path, device: tuple[str, ...]
) -> None:
    argv = ("run", tiny_bundle, "--input", inputs, "-o", tmp_path / "out.npz", "--variant", "onnx-fp32", *device)
    ended = edgekit(*argv)
    assert ended.exit_code == 0, ended.stderr
    assert "onnx-fp32 on onnxruntime" in ended.stdout
    np.testing.assert_allclose(read_npz(tmp_path / "out.npz")["scores"], expected(IMAGES), atol=1e-6)
    assert edgekit(*argv, "--json").json["choice"]["variant"] == "onnx-fp32"


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"imag": IMAGES}, "unknown input 'imag'; did you mean 'image'?"),
        ({"y": IMAGES}, "missing input 'image' (batch, 4) float32"),
        ({"image": IMAGES[:, :3]}, "'image' has shape (8, 3) float32, expected (batch, 4) float32"),
        ({"image": IMAGES.astype("float64")}, "'image' has shape (8, 4) float64, expected (batch, 4) float32"),
        ({"image": np.full((1, 4), np.nan, np.float32)}, "'image' holds NaN, which int8 cannot stand for"),
    ],
)
def test_wrong_arrays(
    edgekit: Run, tiny_bundle: Path, tmp_path: Path, arrays: Any, message: str, device: tuple[str, ...]
) -> None:
    write_npz(tmp_path / "in.npz", arrays)
    ended = edgekit("run", tiny_bundle, "--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz", *device)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz"]


def test_nan_runs_on_a_float_variant(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "in.npz", {"image": np.full((1, 4), np.nan, np.float32)})
    argv = ("--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--variant", "tflite-fp32")
    assert edgekit("run", tiny_bundle, *argv).exit_code == 0
    assert np.isnan(read_npz(tmp_path / "out.npz")["scores"]).all()


def test_no_input_file(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = edgekit("run", tiny_bundle, "--input", tmp_path / "none.npz", "-o", tmp_path / "out.npz", "--json")
    assert ended.exit_code == 2
    assert ended.json["error"]["type"] == "DataError"
    assert "none.npz: cannot be read" in ended.json["error"]["message"]


def test_an_output_folder_that_cannot_be_made(edgekit: Run, tiny_bundle: Path, inputs: Path) -> None:
    ended = edgekit("run", tiny_bundle, "--input", inputs, "-o", inputs / "out.npz")
    assert ended.exit_code == 2
    assert "cannot write" in ended.stderr


def test_an_output_folder_without_permission(
    edgekit: Run, tiny_bundle: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", deny)  # root is let in anywhere
    ended = edgekit("run", tiny_bundle, "--input", inputs, "-o", tmp_path / "out.npz")
    assert ended.exit_code == 2
    assert "out.npz: Permission denied" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "exit_code", "message"),
    [
        (("--variant", "tflite-in8"), 2, "did you mean 'tflite-int8'?"),
        (("--device", "locl:"), 2, "did you mean 'local:'?"),
        (("--device", "adb:X?pyhton=p"), 2, "did you mean 'python'?"),
        (("--threads", "0"), 2, "threads is 0"),
        (("--threads", "two"), 2, "invalid int value: 'two'"),
    ],
)
def test_wrong_words(
    edgekit: Run, tiny_bundle: Path, inputs: Path, tmp_path: Path, argv: Any, exit_code: int, message: str
) -> None:
    ended = edgekit("run", tiny_bundle, "--input", inputs, "-o", tmp_path / "out.npz", *argv)
    assert ended.exit_code == exit_code
    assert message in ended.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
@pytest.mark.parametrize("verb", ["run", "bench"])
def test_the_accelerator_that_is_named_runs_or_is_refused(
    edgekit: Run, tiny_bundle: Path, inputs: Path, verb: str, device: tuple[str, ...]
) -> None:
    given = ("--input", inputs, "--top", 1) if verb == "run" else ("--runs", 2, "--warmup", 0)
    argv = (verb, tiny_bundle, "--variant", "tflite-fp32", *given, *device)
    for asked, ran in (("xnnpack", "cpu (XNNPACK)"), ("cpu", "cpu")):
        found = edgekit(*argv, "--accelerator", asked, "--json").json
        assert (found["choice"]["accelerator"] if verb == "run" else found["accelerator"]) == ran
    refused = edgekit(*argv, "--accelerator", "cuda")
    assert refused.exit_code == 2
    assert "accelerator 'cuda' was asked for, LiteRT knows cpu, xnnpack and the library" in refused.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("run", "--prompt", "Once"), "--accelerator goes with --input: leave it out"),
        (("bench", "--benchmark-model", "x"), "--accelerator does not go with --benchmark-model: leave one out"),
    ],
)
def test_an_accelerator_of_what_chooses_itself(
    edgekit: Run, tiny_bundle: Path, argv: tuple[str, ...], message: str
) -> None:
    ended = edgekit(argv[0], tiny_bundle, *argv[1:], "--accelerator", "cpu")
    assert ended.exit_code == 2
    assert message in ended.stderr
