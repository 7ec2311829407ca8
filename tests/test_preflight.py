"""What a target's profile says of a file, before it is packed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit import preflight
from edgekit.conversion import Inspection, Layer
from edgekit.errors import ConversionError
from edgekit.profiles import Delegate, DeviceProfile

PHONE = DeviceProfile(
    name="phone",
    description="",
    formats=("tflite",),
    precisions=("fp32", "int8"),
    default_precisions=("int8",),
    sources=(),
    delegates={"gpu": Delegate("a page", ("CONV_2D", "ADD"), ("fp32",))},
)
RUNTIMES = {"stem": "2.10.0", "middle": "2.9.0", "other": None, "head": "2.17.0", "tail": "2.11.0"}


def file_of(*operators: tuple[str, str], size: int = 100) -> Inspection:
    layers = tuple(Layer(name, kind, 0, "fp32", None) for kind, name in operators)
    return Inspection("tflite", (), (), size, 0, layers)


def notes(inspection: Inspection, precision: str = "fp32") -> list[str]:
    return list(preflight.delegate_notes(PHONE, inspection, precision=precision))


def test_a_delegate_that_has_everything() -> None:
    assert notes(file_of(("CONV_2D", "conv"), ("ADD", "sum"))) == ["phone's gpu delegate has all 2 operators"]


def test_what_stays_on_the_cpu_is_named_with_its_layer() -> None:
    assert notes(file_of(("CONV_2D", "conv"), ("WHILE", "memory"))) == [
        "phone's gpu delegate has 1 of 2 operators; the CPU computes WHILE (memory)"
    ]
    many = file_of(*(("CAST", f"cast_{number}") for number in range(7)))
    assert notes(many)[0].endswith("CAST (cast_3), CAST (cast_4) and 2 more")


def test_a_precision_that_the_delegate_does_not_take() -> None:
    assert notes(file_of(("ADD", "sum")), "int8") == ["phone's gpu delegate takes nothing of it: it is for fp32"]


def test_a_file_that_is_too_large() -> None:
    with pytest.raises(ConversionError, match=r"^tflite-fp32 has 2,000 bytes, and target 'phone' takes 1,000"):
        preflight.check(replace(PHONE, max_bytes=1000), file_of(size=2000), variant="tflite-fp32")
    preflight.check(replace(PHONE, max_bytes=2000), file_of(size=2000), variant="tflite-fp32")


def test_tensorflows_own_operators() -> None:
    foreign = file_of(("FlexErf", "gelu"), ("ADD", "sum"))
    with pytest.raises(ConversionError, match=r"target 'phone' does not have: FlexErf \(gelu\); write these layers"):
        preflight.check(PHONE, foreign, variant="tflite-fp32")
    preflight.check(replace(PHONE, select_tf=True), foreign, variant="tflite-fp32")


def test_operators_that_are_newer_than_the_targets_runtime() -> None:
    old = replace(PHONE, runtime_version="2.10")
    layers = tuple(Layer(name, "FULLY_CONNECTED", 0, "int8", None, runtime) for name, runtime in RUNTIMES.items())
    file = replace(file_of(), layers=layers)
    with pytest.raises(ConversionError) as caught:
        preflight.check(old, file, variant="tflite-dynamic-int8")
    assert str(caught.value).startswith(
        "tflite-dynamic-int8 needs the TFLite runtime of TensorFlow 2.17.0, and target 'phone' has that of 2.10: "
        "FULLY_CONNECTED (head), FULLY_CONNECTED (tail); choose another precision"
    )
    preflight.check(replace(PHONE, runtime_version="2.17"), file, variant="tflite-dynamic-int8")
    preflight.check(PHONE, file, variant="tflite-dynamic-int8")
