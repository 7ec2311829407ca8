"""Each variant's latency on the device is measured and recorded. Judging it needs pairs of runs, not one."""

from edgekit.devices import DeployedBundle
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Record


def test_latency_is_measured(
    edgekit_deployed: DeployedBundle, edgekit_variant: Variant, edgekit_record: Record
) -> None:
    """The benchmark gives every sample that was asked for, and figures in order."""
    (result,) = edgekit_deployed.bench(edgekit_variant.id).results
    timing = result.timing
    edgekit_record(
        edgekit_variant.id,
        {
            "engine": f"{result.choice.package} {result.choice.engine_version}",
            "accelerator": result.choice.accelerator,
            "runs": timing.runs,
            "warmup": timing.warmup,
            "median_ms": timing.median_ms,
            "p90_ms": timing.p90_ms,
            "p99_ms": timing.p99_ms,
        },
    )
    assert len(timing.samples_ms) == timing.runs
    assert 0 < timing.median_ms <= timing.p90_ms <= timing.p99_ms
