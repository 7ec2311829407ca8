"""A build report made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgekit.budgets import BudgetItem, BudgetVerdict
from edgekit.report import BuildReport, ModelFacts, VariantFacts
from edgekit.report.facts import DeviceTests, GoldenFacts, ParityFacts

MODEL = ModelFacts("digits", "1.0.0", "top1", 0.98, 71_338, 285_352, 0.975, 18_000, 0.8, 1000)

INT8 = VariantFacts(
    id="tflite-int8",
    format="tflite",
    precision="int8",
    member="tflite-int8.tflite",
    targets=("android-arm64", "local"),
    bytes=23_456,
    packed_bytes=9_000,
    ratio=12.165,
    metric=0.971,
    metric_drop=0.009,
    median_ms=0.123456,
    p90_ms=0.234,
    samples=4,
    engine="litert 2.3",
    device="local: Linux x86_64, 2 CPUs, 1 thread",
    float_layers=("softmax",),
    notes=("calibrated with 200 samples",),
    samples_ms=(0.11, 0.12, 0.13, 0.24),
)

UNTIMED = replace(
    INT8, id="onnx-int8", format="onnx", median_ms=None, p90_ms=None, samples=None, device=None, float_layers=(),
    notes=("not timed on local: no engine",), samples_ms=(), metric_drop=-0.002,
)  # fmt: skip


def report(**changes: Any) -> BuildReport:
    made = BuildReport(
        model=MODEL,
        variants=(INT8, UNTIMED),
        parity=(
            ParityFacts("tflite-int8", 1000, 0.0125, 0.99991, 31.25, 0.997),
            ParityFacts("onnx-int8", 1000, 0.0, None, None, None),
        ),
        golden=(GoldenFacts("tflite-int8", 0.01, 0.05, True),),
        device_tests=DeviceTests("local:", 5, 0, 1),
        budget=BudgetVerdict(True, (BudgetItem("max_bytes", 30_000, 23_456, True, "tflite-int8"),)),
        provenance={
            "recipe": ({"step": "prune", "sparsity": 0.8},),
            "tools": {"edgekit": "0.1.0"},
            "model_sha256": "ab" * 32,
            "data_sha256": {"evaluation": "cd" * 32},
        },
    )
    return replace(made, **changes)
