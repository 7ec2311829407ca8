"""What should run each variant does run it: nothing fell back to slower kernels in silence."""

import pytest

from edgekit.bundle import Bundle
from edgekit.devices import DeviceRun
from edgekit.devices.traits import Traits
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Options, Record
from edgekit.runtime.engines import TENSORRT
from edgekit_device_tests.here import kernels, left_by, run_here


def test_nothing_fell_back(
    edgekit_golden_run: DeviceRun,
    edgekit_bundle: Bundle,
    edgekit_variant: Variant,
    edgekit_traits: Traits,
    edgekit_options: Options,
    edgekit_record: Record,
) -> None:
    """The accelerator of --edgekit-accelerator, else TensorRT where it is, else what this machine uses for the file.

    Which operators a delegate leaves is not compared beyond "some": releases of LiteRT differ, and phones do not say.
    """
    choice = edgekit_golden_run.choice
    edgekit_record(edgekit_variant.id, {"accelerator": choice.accelerator})
    if edgekit_options.accelerator is not None:
        assert edgekit_options.accelerator.lower() in choice.accelerator.lower(), kernels(choice)
    elif edgekit_variant.tensorrt is not None and TENSORRT in edgekit_traits.engines:
        assert choice.engine == TENSORRT, f"{kernels(choice)}: {choice.reason}"
    else:
        _, here = run_here(edgekit_bundle, edgekit_variant)
        if here.engine != choice.engine:
            pytest.skip(f"nothing to compare with: {kernels(choice)} there, {kernels(here)} here")
        assert choice.accelerator == here.accelerator, f"{kernels(choice)}; {kernels(here)} here"
        left, left_here = left_by("XNNPACK", choice), left_by("XNNPACK", here)
        assert left is None or left_here is not None, f"{kernels(choice)}: {left}, and it runs all of them here"
