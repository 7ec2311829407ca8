"""What the report says of a variant that is slower than floats."""

from __future__ import annotations

from dataclasses import replace

from edgekit.report.assemble import slow_note
from edgekit.runtime.timing import Timing, summarize
from tests.bundle_parts import example_manifest

VARIANT = example_manifest().variants[0]


def timings(**milliseconds: float) -> dict[str, Timing]:
    return {
        name.replace("_", "-"): summarize([round(value * 1e6)] * 5, warmup=0) for name, value in milliseconds.items()
    }


def test_a_variant_slower_than_fp32_says_by_how_much_and_why() -> None:
    slow = replace(VARIANT, id="tflite-int16x8", format="tflite", precision="int16x8")
    assert slow_note(slow, timings(tflite_int16x8=0.4, tflite_fp32=0.1)) == (
        "4.0x slower here than tflite-fp32 (0.4 against 0.1 ms): LiteRT computes 16-bit activations in its plain "
        "kernels, without XNNPACK",
    )


def test_another_formats_reason_is_not_guessed() -> None:
    slow = replace(VARIANT, id="onnx-int8", format="onnx", precision="int8")
    assert slow_note(slow, timings(onnx_int8=0.4, onnx_fp32=0.1)) == (
        "4.0x slower here than onnx-fp32 (0.4 against 0.1 ms)",
    )


def test_faster_equal_and_untimed_variants_say_nothing() -> None:
    int8 = replace(VARIANT, id="tflite-int8", format="tflite", precision="int8")
    assert slow_note(int8, timings(tflite_int8=0.105, tflite_fp32=0.1)) == ()
    assert slow_note(int8, timings(tflite_int8=0.4)) == ()
    assert slow_note(int8, timings(tflite_fp32=0.1)) == ()
