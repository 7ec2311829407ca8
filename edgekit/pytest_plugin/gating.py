"""The regression gate as a fixture: two bundles on one device, and the verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from edgekit.pytest_plugin.harness import VERDICT, harness_of
from edgekit.pytest_plugin.options import OPTIONS

if TYPE_CHECKING:
    from edgekit.devices import DeployedBundle
    from edgekit.gate import Floor, GateResult, Guard

log = logging.getLogger(__name__)


@pytest.fixture(scope="session")
def edgekit_gate(
    request: pytest.FixtureRequest, edgekit_deployed: DeployedBundle, edgekit_baseline: DeployedBundle
) -> GateResult:
    """Both bundles measured in turns until there is a verdict."""
    from edgekit.devices.conditions import read_condition
    from edgekit.gate import LEAST_FLOOR, NOT_CALIBRATED, Guard, run_gate

    options, harness = request.config.stash[OPTIONS], harness_of(request.config)
    device = edgekit_deployed.device
    guard = Guard(lambda: read_condition(device), progress=log.info)
    alive = harness.leases[device.url].renew
    floor = _floor(request, edgekit_baseline, guard, alive)
    result = run_gate(
        edgekit_baseline,
        edgekit_deployed,
        guard=guard,
        variant=options.variant,
        settings=options.gate(LEAST_FLOOR if floor is None else floor.floor),
        floor_from=NOT_CALIBRATED if floor is None else str(floor),
        alive=alive,
        progress=log.info,
    )
    harness.devices[device.url].gate = asdict(result)
    return result


def note_verdict(node: pytest.Item, verdict: str) -> None:
    """Let the report tell an inconclusive gate from a test that was skipped."""
    node.user_properties.append((VERDICT, verdict))


def _floor(
    request: pytest.FixtureRequest, baseline: DeployedBundle, guard: Guard, alive: Callable[[], None]
) -> Floor | None:
    from edgekit.gate import find_floor, measure_floor, save_floor

    options, url = request.config.stash[OPTIONS], baseline.device.url
    if not options.calibrate:
        return find_floor(url)
    return save_floor(url, measure_floor(baseline, guard=guard, variant=options.variant, alive=alive))
