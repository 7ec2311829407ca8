"""A build report made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.budgets import BudgetItem, BudgetVerdict
from edgekit.layer_figures import LayerFigures, VariantLayers
from edgekit.manifest import Provenance
from edgekit.report import BuildReport, ModelFacts, VariantFacts
from edgekit.report.facts import (
    BenchFacts,
    DeviceTests,
    GoldenFacts,
    HistoryPoint,
    PairFacts,
    ParityFacts,
    SampleFacts,
)
from edgekit.report.images import pictures

(PICTURE,) = pictures({"image": np.arange(64.0).reshape(1, 8, 8, 1)})
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
        provenance=Provenance(
            recipe=({"step": "prune", "sparsity": 0.8},),
            tools={"edgekit": "0.1.0"},
            model_sha256="ab" * 32,
            data_sha256={"evaluation": "cd" * 32},
        ),
    )
    return replace(made, **changes)


def full_report(**changes: Any) -> BuildReport:
    """A report with every section."""
    made = report(
        variants=(INT8, replace(INT8, id="tflite-fp32", precision="fp32", bytes=93_824, metric=0.98), UNTIMED),
        pairs=(
            PairFacts("keras", "tflite-int8", 0.1, 0.999123, 31.25, 1.0),
            PairFacts("keras", "tflite-fp32", 0.0, 1.0, None, 1.0),
            PairFacts("tflite-int8", "tflite-fp32", 0.1, 0.999123, 31.25, 1.0),
        ),
        layers=(
            VariantLayers("tflite-int8", layers(4), samples=4),
            VariantLayers("onnx-int8", layers(2), note="alone"),
        ),
        samples=(
            SampleFacts(0, True, "3", "3", {"tflite-int8": "3", "tflite-fp32": "3"}, PICTURE),
            SampleFacts(41, False, "4", "4", {"tflite-int8": "9", "tflite-fp32": "4"}, PICTURE),
        ),
        benches=(BenchFacts("tflite-int8", "ssh://board", "litert 2.3", 4, 200, 1.5, 1.8, 2.0, (1.4, 1.5, 1.6, 2.0)),),
        history=(
            HistoryPoint("0.9.0", None, "local:", "tflite-int8", 0.96, 25_000, 0.13, 0.25),
            HistoryPoint("1.0.0", "2026-01-02T03:04:05Z", "local:", "tflite-int8", 0.971, 23_456, 0.123, 0.234),
        ),
    )
    return replace(made, **changes)


def layers(count: int) -> tuple[LayerFigures, ...]:
    """As a comparison of an int8 file gives them; the second is the culprit."""
    return tuple(
        LayerFigures(
            f"conv{index}", "CONV_2D", 100 * index, "int8" if index else "fp32", index / count,
            40.0, 45.0, 20.0 + index, 1 if index == 1 else None, "range outliers" if index == 1 else None,
        )
        for index in range(count)
    )  # fmt: skip
