from __future__ import annotations

import numpy as np

from edgekit.comparison.reasons import explain
from edgekit.comparison.statistics import LayerStatistics, Observed
from edgekit.tensors import Quantization
from edgekit.tracing import Grid, Kernel, TracedTensor

RANDOM = np.random.default_rng(1)
FLOAT32 = np.float32


def statistics(values: np.ndarray, grid: Grid | None, got: np.ndarray | None = None, operator: str = "CONV_2D"):
    """Of one sample, where the layer only rounds its output unless `got` says otherwise."""
    tensor = TracedTensor("t", "t", ("t",), operator, -1, grid, None)
    gathered = LayerStatistics(tensor)
    result = grid.round(values) if grid is not None and got is None else got
    gathered.add(Observed(values, result, values, result))
    return gathered


def grid(reach: float) -> Grid:
    """Symmetric int8 from about -reach to reach."""
    return Grid(Quantization(reach / 127, 0), "int8")


def causes(found) -> list[str]:
    return [reason.cause for reason in found]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape).astype(FLOAT32)


def test_no_error_needs_no_reason() -> None:
    values = np.zeros((1, 4, 3), FLOAT32)
    assert explain(statistics(values, grid(1.0)), None) == ()


def test_plain_rounding_is_said_with_its_steps() -> None:
    (reason,) = explain(statistics(normal(1, 500, 4), grid(4.5)), None)
    assert reason.cause == "rounding"
    assert "root mean square of 28." in reason.text


def test_single_values_that_stretch_the_range() -> None:
    values = normal(1, 4000, 1)
    values[0, 7] = 60.0
    (reason,) = explain(statistics(values, grid(60.0)), None)
    assert reason.cause == "range-outliers"
    assert "99.9% of the values keep within ±3." in reason.text
    assert "the range reaches 6" in reason.text


def test_a_channel_that_stretches_the_range_is_named() -> None:
    values = normal(1, 200, 8) * np.array([1, 1, 30, 1, 1, 1, 1, 1], FLOAT32)
    (reason,) = explain(statistics(values, grid(100.0)), None)
    assert reason.cause == "range-outliers"
    assert "channel 2 of 8 reaches" in reason.text


def test_values_beyond_the_range() -> None:
    (reason,) = explain(statistics(normal(1, 500, 4), grid(1.0)), None)
    assert reason.cause == "range-too-small"
    assert "of the values are cut off at [-1.01, 1]" in reason.text
    barely = np.full((1, 500, 4), 1.01, FLOAT32)
    assert causes(explain(statistics(barely, grid(1.0)), None)) == ["rounding"]


def test_a_bounded_activation_at_its_bounds() -> None:
    probabilities = np.full((1, 500, 2), 0.0011, FLOAT32)
    sigmoid = Grid(Quantization(1 / 256, -128), "int8")
    assert causes(explain(statistics(probabilities, sigmoid, operator="LOGISTIC"), None)) == ["saturating-activation"]
    assert causes(explain(statistics(probabilities, sigmoid, operator="MUL"), None)) == ["range-outliers"]


def kernels(values: np.ndarray, steps: np.ndarray) -> tuple[Kernel, Kernel]:
    rounded = np.rint(values / steps[:, None]) * steps[:, None]
    return Kernel(values, None), Kernel(rounded.astype(FLOAT32), steps.astype(FLOAT32))


def explain_kernel(values: np.ndarray, steps: np.ndarray):
    """The reasons where all error is the kernel's: the output stays float."""
    outputs = normal(1, 100, len(values))
    return explain(statistics(outputs, None, outputs + 0.1 * normal(1, 100, len(values))), kernels(values, steps))


def test_an_outlier_weight_is_named_with_its_channel() -> None:
    values = normal(4, 900)
    values[2, 5] = 90.0
    (reason,) = explain_kernel(values, np.abs(values).max(axis=1) / 127)
    assert reason.cause == "range-outliers"
    assert "the largest weight of output channel 2 is 90" in reason.text


def test_one_step_for_all_channels_of_a_kernel() -> None:
    values = normal(6, 50) * np.array([[50.0], [1], [1], [1], [1], [0.01]], FLOAT32)
    found = explain_kernel(values, np.array([np.abs(values).max() / 127]))
    assert causes(found) == ["range-outliers", "dead-channels"]
    assert "one step for all 6 output channels: channel 0 reaches" in found[0].text
    assert "all weights of 1 of 6 output channels are rounded to zero" in found[1].text


def test_a_healthy_kernel_is_told_with_its_snr() -> None:
    values = normal(4, 100)
    (reason,) = explain_kernel(values, np.abs(values).max(axis=1) / 127)
    assert reason.cause == "rounding"
    assert reason.text.startswith("rounding of the kernel, without outliers: it is at 4")


def test_lower_precision_without_a_grid() -> None:
    outputs = normal(1, 10, 2)
    (reason,) = explain(statistics(outputs, None, outputs.astype(np.float16).astype(FLOAT32)), None)
    assert reason.text == "computed in lower precision than float32"
