from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgekit_triton.choosing import choose
from edgekit_triton.options import Options

from edgekit.errors import ConfigError, ConversionError, EngineError
from edgekit.manifest import Binding, State
from edgekit.tensorrt.recipe import Recipe, Shapes
from tests.converters.pbtxt_reader import read_config
from tests.converters.triton_bundles import config, export, one, two_outputs, variant, write

ONNX = two_outputs()


def plan(folder: Path, **more: Any) -> Path:
    return write(folder, [(variant("fp16", b"a plan", format_name="tensorrt", **more), b"a plan")])


class TestChoice:
    VARIANTS = (
        *(variant(precision, ONNX) for precision in ("fp32", "fp16", "int8")),
        variant("int8", b"not read", format_name="tflite", engine="litert"),
    )

    @pytest.mark.parametrize(
        ("options", "chosen", "reason"),
        [
            ({}, "onnx-fp16", "fp16 before fp32 before int8 for ONNX Runtime on a GPU: a rule, not a measurement"),
            ({"cpu": True}, "onnx-fp32", "fp32 before fp16 before int8 for ONNX Runtime on a CPU"),
            ({"tensorrt_accelerator": True}, "onnx-int8", "int8 before fp16 before fp32 for TensorRT"),
            ({"precision": "int8"}, "onnx-int8", "asked for"),
            ({"variant": "onnx-fp32"}, "onnx-fp32", "asked for"),
        ],
    )
    def test_the_best_or_the_one_asked_for(self, options: dict[str, Any], chosen: str, reason: str) -> None:
        choice = choose(self.VARIANTS, Options(**options), where="two")
        assert choice.variant.id == chosen
        assert reason in choice.reason
        reasons = {item.variant: item.reason for item in choice.left_out}
        assert reasons.pop("tflite-int8") == "Triton has no backend of its own for tflite"
        assert len(reasons) == 2
        assert set(reasons.values()) == {f"'{chosen}' is served: serve this one as a model of its own"}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"variant": "tflite-int8"}, "variant 'tflite-int8' cannot be served: Triton has no backend of its own"),
            ({"variant": "onnx"}, "no variant 'onnx' that Triton runs; Triton runs onnx-fp32, onnx-fp16, onnx-int8"),
            ({"precision": "int16x8"}, "no variant in precision int16x8 that Triton runs"),
            ({"variant": "onnx-fp16", "precision": "fp32"}, "no variant 'onnx-fp16' in precision fp32 that Triton"),
        ],
    )
    def test_what_is_not_there(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConversionError, match=message):
            choose(self.VARIANTS, Options(**options), where="two")

    def test_no_variant_for_triton(self, tmp_path: Path) -> None:
        tflite = variant("int8", b"x", format_name="tflite", engine="litert")
        other = variant("fp16", b"y", format_name="tensorrt", engine="tensorrt-rtx")
        bundle = write(tmp_path, [(tflite, b"x"), (other, b"y")])
        with pytest.raises(ConversionError) as caught:
            export(bundle, tmp_path / "repo")
        assert str(caught.value) == (
            "two-1.0.0.edgekit: no variant that Triton runs ('tflite-int8': Triton has no backend of its own for "
            "tflite; 'tensorrt-fp16': Triton's TensorRT backend does not run engines of tensorrt-rtx): build the "
            "bundle for a target that takes ONNX too"
        )

    def test_onnx_comes_before_a_plan(self, tmp_path: Path) -> None:
        made = [(variant("fp16", b"plan", format_name="tensorrt"), b"plan"), (variant("fp32", ONNX), ONNX)]
        exported = export(write(tmp_path, made), tmp_path / "repo")
        assert exported.variant == "onnx-fp32"
        assert exported.reason == "the first fp32 variant, ONNX before an engine that one kind of GPU runs"

    def test_a_file_that_onnx_runtime_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="onnxruntime refuses the model"):
            export(one(tmp_path, b"no ONNX at all"), tmp_path / "repo")
        assert not (tmp_path / "repo").exists()

    def test_a_file_of_another_dtype_than_the_manifest_says(self, tmp_path: Path) -> None:
        bindings = (Binding("image", "image_in", "float16"), Binding("steps", "steps:0", "int64"))
        made = variant("fp32", ONNX, inputs=bindings)
        with pytest.raises(EngineError, match="input tensor 'image_in' is float32, the manifest says float16"):
            export(write(tmp_path, [(made, ONNX)]), tmp_path / "repo")


class TestPlans:
    PROFILE = Recipe(
        profiles=({"image": Shapes((1, 2, 3), (4, 2, 3), (16, 2, 3)), "steps": Shapes((1, 5), (4, 5), (20, 5))},)
    )

    def test_a_plan_is_served_up_to_its_profile(self, tmp_path: Path) -> None:
        exported = export(plan(tmp_path, tensorrt=self.PROFILE), tmp_path / "repo")
        read = read_config((exported.folder / "config.pbtxt").read_text())
        assert (read["platform"], read["max_batch_size"]) == ("tensorrt_plan", 16)
        assert (exported.folder / "1" / "model.plan").read_bytes() == b"a plan"
        assert "nothing of it could be checked here" in exported.notes[0]

    def test_without_profiles_an_engine_takes_batches_up_to_8(self, tmp_path: Path) -> None:
        assert config(plan(tmp_path, tensorrt=Recipe()), tmp_path / "repo")["max_batch_size"] == 8

    @pytest.mark.parametrize(
        ("recipe", "options", "message"),
        [
            (None, {}, "variant 'tensorrt-fp16' does not say the largest batch of its engine: give --max-batch"),
            (
                PROFILE,
                {"max_batch": 32},
                "--max-batch is 32, and the engine of variant 'tensorrt-fp16' was built for up to 16",
            ),
            (PROFILE, {"cpu": True}, "--cpu is for ONNX, and variant 'tensorrt-fp16' is a plan: leave it out"),
            (PROFILE, {"tensorrt_accelerator": True}, "--tensorrt-accelerator is for ONNX, and variant"),
        ],
    )
    def test_what_a_plan_cannot(
        self, tmp_path: Path, recipe: Recipe | None, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            export(plan(tmp_path, tensorrt=recipe), tmp_path / "repo", **options)

    def test_the_largest_batch_may_be_said(self, tmp_path: Path) -> None:
        assert config(plan(tmp_path), tmp_path / "repo", max_batch=4)["max_batch_size"] == 4


def test_a_model_with_state_is_not_served(tmp_path: Path) -> None:
    stateful = variant("fp32", b"", state=State())
    with pytest.raises(ConversionError, match="keeps state from call to call"):
        choose([stateful], Options(), where="two")
