"""Accuracy on labelled samples that are pushed to the device."""

import math

import pytest

from edgekit.bundle import Bundle
from edgekit.data import Data
from edgekit.devices import DeployedBundle
from edgekit.evaluation import checked_metric, find_metric
from edgekit.manifest import Variant
from edgekit.pytest_plugin import Options, Record

STANDARD_ERRORS = 2.0


def test_accuracy(
    edgekit_deployed: DeployedBundle,
    edgekit_bundle: Bundle,
    edgekit_variant: Variant,
    edgekit_evaluation: Data,
    edgekit_options: Options,
    edgekit_record: Record,
) -> None:
    """The metric is what the build measured, less the allowed drop and what a sample may miss it by."""
    metrics, data = edgekit_variant.metrics, edgekit_evaluation
    name = edgekit_options.metric or next(iter(metrics), None)
    if name is None:
        pytest.skip("the bundle names no metric: --edgekit-metric top1, or module:function")
    outputs = edgekit_deployed.run(data.inputs, variant=edgekit_variant.id).outputs
    value = checked_metric(find_metric(name)(outputs, data.need_labels()), data.where)
    figures: dict[str, object] = {"metric": name, "metric_value": value, "metric_samples": len(data)}
    if name not in metrics:
        edgekit_record(edgekit_variant.id, figures)
        return
    whole = data.sha256() == edgekit_bundle.manifest.provenance.data_sha256.get("evaluation")
    limit = metrics[name] - edgekit_options.max_drop - (0.0 if whole else _sampling_error(metrics[name], len(data)))
    edgekit_record(edgekit_variant.id, {**figures, "metric_built": metrics[name], "metric_limit": limit})
    assert value >= limit, f"{name} is {value:.4f} on the device, {metrics[name]:.4f} in the build, limit {limit:.4f}"


def _sampling_error(value: float, samples: int) -> float:
    """Two standard errors of a mean of values in [0, 1], whose variance is at most that of zeros and ones."""
    inside = min(max(value, 0.0), 1.0)
    return STANDARD_ERRORS * math.sqrt(inside * (1 - inside) / samples)
