"""Google's benchmark_model measures each TFLite variant on the device; collected where the user brings that binary."""

import dataclasses

import pytest

from edgekit.bundle import Bundle
from edgekit.devices import Transport
from edgekit.devices.benchmark_model import run_benchmark_model
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Options, Record


def test_benchmark_model_measures_it(
    edgekit_device: Transport,
    edgekit_bundle: Bundle,
    edgekit_variant: Variant,
    edgekit_options: Options,
    edgekit_record: Record,
) -> None:
    """Its figures are recorded beside ours; they are of made-up inputs."""
    if edgekit_variant.format != "tflite":
        pytest.skip("benchmark_model runs TFLite alone")
    assert edgekit_options.benchmark_model is not None
    figures = run_benchmark_model(
        edgekit_bundle.path, edgekit_device, edgekit_options.benchmark_model, variant=edgekit_variant.id
    )
    measured = dataclasses.asdict(figures).items()
    edgekit_record(edgekit_variant.id, {f"benchmark_model.{name}": value for name, value in measured})
    assert 0 < figures.min_ms <= figures.mean_ms <= figures.max_ms
