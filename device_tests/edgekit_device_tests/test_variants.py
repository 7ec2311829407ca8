"""Each variant loads on the device, runs, and agrees with the float model and with this machine."""

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.devices import DeviceRun
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Record
from edgekit.runtime.golden import GoldenResult
from edgekit_device_tests.here import kernels, left_by, run_here

XNNPACK = "XNNPACK"


def test_it_loads_and_runs(edgekit_golden_run: DeviceRun, edgekit_bundle: Bundle, edgekit_variant: Variant) -> None:
    """Real samples go there; every output comes back under its name, in its shape and dtype."""
    assert edgekit_golden_run.choice.variant == edgekit_variant.id
    assert list(edgekit_golden_run.outputs) == [spec.name for spec in edgekit_bundle.manifest.outputs]
    in_steps = edgekit_bundle.manifest.golden.steps is not None
    for spec in edgekit_bundle.manifest.outputs:
        (spec.in_steps if in_steps else spec).check(edgekit_golden_run.outputs[spec.name], where=edgekit_variant.id)


def test_golden_outputs(edgekit_golden: GoldenResult, edgekit_variant: Variant, edgekit_record: Record) -> None:
    """Its outputs on the golden inputs are within its tolerance."""
    found = edgekit_golden
    edgekit_record(
        edgekit_variant.id,
        {"max_error": found.max_error, "max_error_limit": found.limit, "top1_agreement": found.top1_agreement},
    )
    assert found.passed, f"{edgekit_variant.id}: largest error {found.max_error}, limit {found.limit}"


def test_int8_outputs_are_those_of_this_machine(
    edgekit_golden_run: DeviceRun, edgekit_bundle: Bundle, edgekit_variant: Variant, edgekit_record: Record
) -> None:
    """XNNPACK's int8 kernels give the same bits on x86-64 and on aarch64; those of what it leaves need not."""
    there = edgekit_golden_run.choice
    edgekit_record(edgekit_variant.id, {"kernels": kernels(there)})
    if (edgekit_variant.format, edgekit_variant.precision) != ("tflite", "int8") or edgekit_variant.float_layers:
        pytest.skip("only wholly int8 TFLite has the same bits everywhere")
    outputs, here = run_here(edgekit_bundle, edgekit_variant)
    edgekit_record(edgekit_variant.id, {"kernels_here": kernels(here)})
    if not (XNNPACK in there.accelerator and XNNPACK in here.accelerator):
        pytest.skip(f"other kernels: {kernels(there)} there, {kernels(here)} here")
    different = sum(int(np.sum(array != edgekit_golden_run.outputs[name])) for name, array in outputs.items())
    edgekit_record(edgekit_variant.id, {"values_unlike_here": different})
    if different and (left := left_by(XNNPACK, there, here)):
        pytest.skip(f"{different} values differ, which other kernels may give: {left}")
    assert different == 0, f"{edgekit_variant.id}: {different} values differ: {kernels(there)}, {kernels(here)} here"
