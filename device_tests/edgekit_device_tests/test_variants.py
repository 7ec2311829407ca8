"""Each variant loads on the device, runs, and agrees with the float model."""

from edgekit.bundle import Bundle
from edgekit.devices import DeployedBundle
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Record
from edgekit.runtime.golden import read_golden


def test_it_loads_and_runs(edgekit_deployed: DeployedBundle, edgekit_bundle: Bundle, edgekit_variant: Variant) -> None:
    """One real sample goes there; every output comes back under its name, in its shape and dtype."""
    sample = {name: array[:1] for name, array in read_golden(edgekit_bundle).inputs.items()}
    result = edgekit_deployed.run(sample, variant=edgekit_variant.id)
    assert result.choice.variant == edgekit_variant.id
    assert list(result.outputs) == [spec.name for spec in edgekit_bundle.manifest.outputs]
    for spec in edgekit_bundle.manifest.outputs:
        spec.check(result.outputs[spec.name], where=edgekit_variant.id)


def test_golden_outputs(edgekit_deployed: DeployedBundle, edgekit_variant: Variant, edgekit_record: Record) -> None:
    """Its outputs on the golden inputs are within its tolerance."""
    (result,) = edgekit_deployed.golden(edgekit_variant.id).results
    edgekit_record(
        edgekit_variant.id,
        {"max_error": result.max_error, "max_error_limit": result.limit, "top1_agreement": result.top1_agreement},
    )
    assert result.passed, f"{edgekit_variant.id}: largest error {result.max_error}, limit {result.limit}"
