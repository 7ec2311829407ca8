from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import BundleError, ConfigError, EngineError, ModelError
from edgekit.manifest import Binding, Input
from edgekit.runtime import Rejected, engine_litert, engine_onnx, open_bundle, open_file
from edgekit.runtime.engines import EngineStatus
from edgekit.tensors import TensorSpec
from tests.tiny_models import IMAGES, INPUTS, OUTPUTS, Part, expected, float_onnx, float_tflite, pack, relu_tflite


def status(name: str, version: str | None, *, applies: bool = True) -> Callable[[], EngineStatus]:
    return lambda: EngineStatus(name, name if version else None, version, f"pip install {name}", applies)


@pytest.fixture
def without_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_litert, "find", status("litert", None))


class TestChoosing:
    def test_int8_on_litert_comes_first(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle) as session:
            choice = session.choice
        assert (choice.variant, choice.engine, choice.threads) == ("tflite-int8", "litert", 1)
        assert choice.package == "ai-edge-litert"
        assert choice.accelerator == "cpu (XNNPACK)"
        assert choice.reason == "int8 on litert is the first in order of preference that runs here"
        assert choice.rejected == (
            Rejected("tflite-fp32", "'tflite-int8' comes before it"),
            Rejected("onnx-fp32", "'tflite-int8' comes before it"),
        )

    @pytest.mark.usefixtures("without_litert")
    def test_an_engine_that_is_not_installed(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle) as session:
            choice = session.choice
        assert choice.variant == "onnx-fp32"
        assert choice.accelerator == "cpu (CPUExecutionProvider)"
        missing = "engine 'litert' is not installed: pip install litert"
        assert choice.rejected == (Rejected("tflite-int8", missing), Rejected("tflite-fp32", missing))

    @pytest.mark.usefixtures("without_litert")
    def test_nothing_runs_here(self, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_onnx, "find", status("onnxruntime", None))
        with pytest.raises(EngineError, match=r"here: 'tflite-int8', 'tflite-fp32': engine 'litert' .*; 'onnx"):
            open_bundle(tiny_bundle)

    def test_an_engine_by_name(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle, engine="onnxruntime") as session:
            assert session.choice.variant == "onnx-fp32"
            assert session.choice.rejected[0].reason == "it needs engine 'litert', 'onnxruntime' was asked for"

    def test_an_engine_of_another_name(self, tiny_bundle: Path) -> None:
        with pytest.raises(EngineError, match=r"no engine 'onnxruntme'; did you mean 'onnxruntime'\?"):
            open_bundle(tiny_bundle, engine="onnxruntme")

    def test_a_bundle_without_variants(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"the manifest lists no variant, so nothing can run"):
            open_bundle(pack(tmp_path, ()))

    def test_a_variant_of_another_name(self, tiny_bundle: Path) -> None:
        with pytest.raises(BundleError, match=r"no variant 'tflite-in8'; did you mean 'tflite-int8'\?"):
            open_bundle(tiny_bundle, variant="tflite-in8")

    def test_a_variant_and_an_engine_that_do_not_fit(self, tiny_bundle: Path) -> None:
        with pytest.raises(EngineError, match=r"variant 'tflite-int8' does not run here: it needs engine 'litert'"):
            open_bundle(tiny_bundle, variant="tflite-int8", engine="onnxruntime")

    def test_an_engine_that_is_too_old(self, tmp_path: Path) -> None:
        part = Part("tflite", "fp32", float_tflite(), "litert", engine_least_version="99.1")
        with pytest.raises(EngineError, match=r"ai-edge-litert [\d.]+ is older than 99.1: pip install -U"):
            open_bundle(pack(tmp_path, (part,)))

    def test_a_stand_in_package_is_not_held_to_anothers_numbers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_litert, "find", status("litert", "2.14.0", applies=False))
        part = Part("tflite", "fp32", float_tflite(), "litert", engine_least_version="99.1")
        with open_bundle(pack(tmp_path, (part,))) as session:
            assert session.choice.engine_version == "2.14.0"

    def test_an_engine_from_the_future(self, tmp_path: Path) -> None:
        later = Part("onnx", "int8", float_onnx(), "hexagon")
        here = Part("onnx", "fp32", float_onnx(), "onnxruntime")
        with open_bundle(pack(tmp_path, (later, here))) as session:
            assert session.choice.rejected == (Rejected("onnx-int8", "this edgekit has no engine 'hexagon'"),)

    def test_a_variant_that_its_engine_refuses(self, tmp_path: Path) -> None:
        broken = Part("tflite", "int8", b"TFL3 is not here", "litert", "int8")
        here = Part("onnx", "fp32", float_onnx(), "onnxruntime")
        with open_bundle(pack(tmp_path, (broken, here))) as session:
            assert session.choice.variant == "onnx-fp32"
            (rejected,) = session.choice.rejected
            assert rejected.variant == "tflite-int8"
            assert "ai_edge_litert refuses the model" in rejected.reason

    def test_a_changed_member_is_never_passed_over(self, tiny_bundle: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tiny_bundle) as archive:
            info = archive.getinfo("tflite-int8.tflite")
        content = bytearray(tiny_bundle.read_bytes())
        content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0x55
        path = tmp_path / "changed.edgekit"
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"changed.edgekit: member 'tflite-int8.tflite' was changed"):
            open_bundle(path)

    def test_no_threads(self, tiny_bundle: Path) -> None:
        with pytest.raises(ConfigError, match=r"threads is 0, expected at least 1"):
            open_bundle(tiny_bundle, threads=0)


class TestFiles:
    @pytest.mark.parametrize(
        "part",
        [Part("tflite", "fp32", float_tflite(), "litert"), Part("onnx", "fp32", float_onnx(1), "onnxruntime")],
        ids=lambda part: part.id,
    )
    def test_a_converted_file(self, tmp_path: Path, part: Part) -> None:
        path = tmp_path / "model"
        path.write_bytes(part.content)
        with open_file(path, part.variant(), INPUTS, OUTPUTS, threads=2) as session:
            assert (session.choice.variant, session.choice.threads) == (part.id, 2)
            np.testing.assert_allclose(session.run({"image": IMAGES})["scores"], expected(IMAGES), atol=1e-6)

    def test_a_size_that_the_file_leaves_open(self, tmp_path: Path) -> None:
        path = tmp_path / "relu.tflite"
        path.write_bytes(relu_tflite())
        variant = dataclasses.replace(
            Part("tflite", "fp32", relu_tflite(), "litert").variant(),
            inputs=(Binding("x", "x", "float32"),),
            outputs=(Binding("y", "y", "float32"),),
        )
        inputs, outputs = [Input("x", (None, None), "float32")], [TensorSpec("y", (None, None), "float32")]
        with open_file(path, variant, inputs, outputs) as session:
            for size in (5, 1, 3):
                x = np.linspace(-1, 1, 2 * size, dtype=np.float32).reshape(2, size)
                np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))

    def test_no_file(self, tmp_path: Path) -> None:
        variant = Part("tflite", "fp32", b"", "litert").variant()
        with pytest.raises(ModelError, match=r"none.tflite: cannot be read"):
            open_file(tmp_path / "none.tflite", variant, INPUTS, OUTPUTS)

    @pytest.mark.usefixtures("without_litert")
    def test_no_engine(self, tmp_path: Path) -> None:
        variant = Part("tflite", "fp32", b"", "litert").variant()
        with pytest.raises(EngineError, match=r"none.tflite: engine 'litert' is not installed"):
            open_file(tmp_path / "none.tflite", variant, INPUTS, OUTPUTS)

    @pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
    def test_bindings_that_are_not_the_files(self, tmp_path: Path, engine: str) -> None:
        content = float_tflite() if engine == "litert" else float_onnx()
        part = Part("tflite" if engine == "litert" else "onnx", "fp32", content, engine)
        path = tmp_path / "model"
        path.write_bytes(content)
        good = part.variant()
        (binding,) = good.inputs
        other_name = dataclasses.replace(good, inputs=(dataclasses.replace(binding, tensor="other"),))
        with pytest.raises(EngineError, match=r"no input tensor 'other' for 'image' \(it has: \w+\)"):
            open_file(path, other_name, INPUTS, OUTPUTS)
        other_dtype = dataclasses.replace(good, inputs=(dataclasses.replace(binding, dtype="int8"),))
        with pytest.raises(EngineError, match=r"is float32, the manifest says int8"):
            open_file(path, other_dtype, INPUTS, OUTPUTS)
        with pytest.raises(EngineError, match=r"the model has 1 outputs .* the manifest 0"):
            open_file(path, dataclasses.replace(good, outputs=()), INPUTS, ())

    @pytest.mark.parametrize("content", [b"", b"rubbish", float_tflite()[:200]])
    def test_rubbish(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model"
        path.write_bytes(content)
        for part in (Part("tflite", "fp32", b"", "litert"), Part("onnx", "fp32", b"", "onnxruntime")):
            with pytest.raises(EngineError, match=r"refuses the model|the model has no input"):
                open_file(path, part.variant(), INPUTS, OUTPUTS)
