from __future__ import annotations

import pytest

from edgekit.errors import ConfigError, ConversionError
from edgekit.planning import PlannedVariant, plan


def test_targets_share_a_variant_that_both_take() -> None:
    made = plan({"android-arm64": ["int8"], "local": ["int8", "fp32"]})
    assert {variant.id: variant.targets for variant in made.variants} == {
        "tflite-int8": ("android-arm64", "local"),
        "onnx-int8": ("local",),
        "tflite-fp32": ("local",),
        "onnx-fp32": ("local",),
    }
    assert made.formats == ("tflite", "onnx")


def test_a_target_prefers_its_first_precision_in_its_first_format() -> None:
    made = plan({"local": ["fp32", "int8"], "jetson-orin-nano": ["fp16"]})
    assert made.preferred == {"local": "tflite-fp32", "jetson-orin-nano": "onnx-fp16"}


def test_names_alone_get_the_profiles_choice() -> None:
    assert plan(["android-arm64"]) == plan({"android-arm64": None})
    assert [variant.precision for variant in plan(["android-arm64"]).variants] == ["int8", "fp16", "fp32"]


def test_only_the_variants_of_a_target_with_checkers_are_checked() -> None:
    made = plan({"jetson-orin-nano": ["int8"], "local": ["int8", "fp32"]})
    assert {variant.id: variant.checkers for variant in made.variants} == {
        "onnx-int8": ("tensorrt",),
        "tflite-int8": (),
        "tflite-fp32": (),
        "onnx-fp32": (),
    }


def test_integers_need_calibration() -> None:
    assert plan({"local": ["fp32", "int8"]}).needs_calibration
    assert not plan({"local": ["fp32", "fp16"]}).needs_calibration


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown target 'jetson-orin-nan'; did you mean 'jetson-orin-nano'\?"):
        plan(["jetson-orin-nan"])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target 'local': unknown precision 'int_8'; did you mean 'int8'\?"):
        plan({"local": ["int_8"]})


def test_no_target_and_no_precision_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no targets; name at least one"):
        plan([])
    with pytest.raises(ConfigError, match=r"target 'local': precision is empty; it takes fp32, fp16"):
        plan({"local": []})


def test_a_precision_that_no_format_of_the_target_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit import planning
    from edgekit.profiles import DeviceProfile

    only_onnx = DeviceProfile("npu", "", ("onnx",), ("int8-float-io",), ("int8-float-io",), ())
    monkeypatch.setattr(planning, "load_target", {"npu": only_onnx}.__getitem__)
    with pytest.raises(ConversionError, match=r"onnx has no precision 'int8-float-io'"):
        plan(["npu"])


def test_targets_are_a_list() -> None:
    with pytest.raises(ConfigError, match=r"targets is 'local', expected a list of names"):
        plan("local")


def test_auto_plans_every_precision_as_a_candidate() -> None:
    made = plan({"android-arm64": "auto", "local": ["int8"]})
    assert made.automatic == ("android-arm64",)
    assert made.preferred == {"local": "tflite-int8"}
    candidates = {variant.id: variant.candidate for variant in made.variants}
    assert candidates["tflite-int16x8"]
    assert not candidates["tflite-int8"]  # the other target asked for it
    assert plan({"android-arm64": ["auto"]}) == plan({"android-arm64": "auto"})


def test_auto_stands_alone() -> None:
    with pytest.raises(ConfigError, match=r"target 'local': precision \"auto\" tries every one; leave out the others"):
        plan({"local": ["auto", "fp32"]})
    with pytest.raises(ConfigError, match=r"unknown precision 'atuo'; did you mean 'auto'\?"):
        plan({"local": "atuo"})


def test_a_given_file_is_made_into_its_own_format_and_engines_alone() -> None:
    made = plan({"local": None, "jetson-orin-nano": ["int8"]}, "onnx")
    assert [variant.id for variant in made.variants] == ["onnx-int8", "onnx-fp16", "onnx-fp32"]
    assert plan({"local": "auto"}, "onnx").variants == tuple(
        PlannedVariant("onnx", precision, ("local",), (), candidate=True)
        for precision in ("fp32", "fp16", "dynamic-int8", "int8", "int4-weights")
    )
    with pytest.raises(ConfigError, match=r"choose a target that takes it \(jetson-agx-orin, .*, local, .*, t4\)"):
        plan(["android-arm64"], "onnx")
    assert [variant.id for variant in plan({"rtx-4090": ["int8"]}, "onnx").variants] == ["tensorrt-int8"]
