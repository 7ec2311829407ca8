"""No vendor's compiler is here: what is tested is that nothing of what then happens passes for a compiled file."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ai_edge_litert.aot import aot_compile
from ai_edge_litert.aot.core.aot_types import CompilationResult, Model, PartitionStats, SubgraphPartitionStats
from edgekit_tflite import converter, npu
from edgekit_tflite.npu_worker import compile_ahead, failure_of, fault_of, taken_of

from edgekit.cli import main
from edgekit.errors import ConfigError, ConversionError
from tests.tiny_models import float_tflite, int8_tflite


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.tflite"
    path.write_bytes(float_tflite())
    return path


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`sdk(code)`: a package of Qualcomm's SDK with this code, and a folder for its libraries."""

    def install(code: str) -> Path:
        package, libraries = tmp_path / "site" / "ai_edge_litert_sdk_qualcomm", tmp_path / "libraries"
        package.mkdir(parents=True)
        libraries.mkdir()
        (package / "__init__.py").write_text(code.format(libraries=libraries))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        return libraries

    return install


HERE = "def path_to_sdk_libs():\n    return {libraries!r}\n".replace("{libraries!r}", "'{libraries}'")


@pytest.mark.parametrize(
    ("chip", "missing", "package"),
    [
        ("qualcomm:SM8650", "it finds no libQnnHtp.so", "ai-edge-litert-sdk-qualcomm"),
        ("mediatek:MT6991", "it says 'Failed to load NeuronAdapter", "ai-edge-litert-sdk-mediatek"),
        ("google_tensor:Tensor_G5", "it finds no liblitert_plugin_compiler.so", "ai-edge-litert-sdk-google-tensor"),
    ],
)
def test_the_missing_compiler_is_named(
    given: Path, chip: str, missing: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(package.replace("-", "_")) is not None:
        pytest.skip(f"{package} is installed here")
    out = tmp_path / "out"
    assert main(["convert", str(given), "--to", "tflite", "--npu", chip, "-o", str(out / "x.tflite")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the compiler for {chip} made nothing of use: {missing}")
    assert f"{package} is not installed: pip install {package} where the vendor's downloads can be reached" in line
    assert list(out.iterdir()) == []


def test_an_sdk_package_with_nothing_in_it(given: Path, tmp_path: Path, sdk: Callable[..., Path]) -> None:
    sdk("")
    with pytest.raises(ConversionError) as caught:
        converter.npu_compiler("qualcomm:SM8650")(given, tmp_path / "x.tflite")
    assert "it ended with AttributeError" in str(caught.value)
    assert "ai-edge-litert-sdk-qualcomm is installed without the libraries that it should have" in str(caught.value)
    assert not (tmp_path / "x.tflite").exists()


@pytest.mark.parametrize(
    ("file", "said"), [("README", "is installed without"), ("libOther.so", "with its libraries in")]
)
def test_an_sdk_package_that_the_compiler_cannot_use(
    given: Path, tmp_path: Path, sdk: Callable[..., Path], file: str, said: str
) -> None:
    (sdk(HERE) / file).touch()
    with pytest.raises(ConversionError, match=r"it finds no libQnnHtp\.so; ai-edge-litert-sdk-qualcomm is ") as caught:
        converter.npu_compiler("qualcomm:SM8650")(given, tmp_path / "x.tflite")
    assert said in str(caught.value)


def result(path: Path, content: bytes | None, offloaded: int | None = 1) -> CompilationResult:
    """What ai-edge-litert gives for one model that it counts as compiled."""
    if content is not None:
        path.write_bytes(content)
    model = Model.create_from_path(path)
    parts = [] if offloaded is None else [SubgraphPartitionStats(0, offloaded, 2, 1)]
    model.partition_stats = PartitionStats(parts)
    return CompilationResult(models_with_backend=[(SimpleNamespace(), model)])


@pytest.mark.parametrize(
    ("content", "offloaded", "fault"),
    [
        (None, 1, "it left an empty file and no error"),
        (b"", 1, "it left an empty file and no error"),
        (float_tflite(), 1, "it left the file as it was"),
        (int8_tflite(), 0, "it gave none of the operators to the NPU"),
        (int8_tflite(), 1, None),
        (int8_tflite(), None, None),
    ],
)
def test_what_counts_as_compiled_is_looked_at(
    given: Path, tmp_path: Path, content: bytes | None, offloaded: int | None, fault: str | None
) -> None:
    assert fault_of(result(tmp_path / "x.tflite", content, offloaded), given) == fault


def test_a_good_result_is_written_with_what_the_npu_takes(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the vendor's compiler, and the worker's part in this process."""

    def stand_in(model: str, *, output_dir: str, target: object) -> CompilationResult:
        assert (model, repr(target)) == (str(given), "Qualcomm_SM8650")
        Path(output_dir).mkdir()
        return result(Path(output_dir) / "made.tflite", int8_tflite())

    monkeypatch.setattr(aot_compile, "aot_compile", stand_in)
    monkeypatch.setattr(npu.workers, "call", lambda module, request, **settings: compile_ahead(request))
    note = converter.npu_compiler("qualcomm:SM8650")(given, tmp_path / "x.tflite")
    assert note == "compiled for qualcomm:SM8650: the NPU takes 1 of 2 operators; not run here"
    assert (tmp_path / "x.tflite").read_bytes() == int8_tflite()


def test_a_result_that_is_no_tflite_file(given: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"what the compiler made of given\.tflite is damaged"):
        fault_of(result(tmp_path / "x.tflite", b"\xff" * 64), given)


def test_how_much_the_npu_takes(tmp_path: Path) -> None:
    assert taken_of(result(tmp_path / "x.tflite", b"", 1)) == "1 of 2 operators"
    assert taken_of(result(tmp_path / "x.tflite", b"", None)).startswith("an unknown part")


@pytest.mark.parametrize(
    ("log", "words", "reason"),
    [
        ("ERROR: [a.cc:1]\nERROR: [b.cc:2] no such chip\n", "x", "it says 'no such chip'"),
        ("", "apply_plugin failed", "it says 'apply_plugin failed'"),
        ("", None, "it gave no model"),
    ],
)
def test_why_a_target_failed(tmp_path: Path, log: str, words: str | None, reason: str) -> None:
    (tmp_path / "x.error").write_text(log)
    failed: list[Any] = [] if words is None else [(SimpleNamespace(), words)]
    assert failure_of(CompilationResult(failed_backends=failed), tmp_path) == reason


@pytest.mark.parametrize(
    ("chip", "message"),
    [
        ("qualcom:SM8650", "no vendor 'qualcom'; did you mean 'qualcomm'?"),
        ("qualcomm", "expected VENDOR:SOC, for example qualcomm:SM8650"),
    ],
)
def test_a_target_that_is_none(chip: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        converter.npu_compiler(chip)
    assert message in str(caught.value)


def test_a_soc_that_is_none(given: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"npu is 'qualcomm:SM8651': qualcomm has no SoC 'SM8651'; did you mean 'SM8"):
        converter.npu_compiler("qualcomm:SM8651")(given, tmp_path / "x.tflite")


def test_another_format_has_no_npu(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(given), "--to", "onnx", "--npu", "qualcomm:SM8650", "-o", "x.onnx"]) == 2
    assert "--npu is for --to tflite, not onnx: leave it out" in capsys.readouterr().err
