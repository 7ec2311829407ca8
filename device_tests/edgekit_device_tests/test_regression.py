"""Is the bundle slower than an older one? Asked in pairs of processes, with --edgekit-baseline."""

import pytest

from edgekit.gate import FAIL, INCONCLUSIVE, GateResult
from edgekit.pytest_plugin import Options, Record, note_verdict

pytestmark = pytest.mark.latency


def test_not_slower_than_the_baseline(
    request: pytest.FixtureRequest, edgekit_gate: GateResult, edgekit_options: Options, edgekit_record: Record
) -> None:
    """It fails when it is slower for certain. What cannot be said skips, or fails under --edgekit-require-device."""
    found = edgekit_gate
    ratio = None if found.estimate is None else found.estimate.ratio
    edgekit_record(
        found.choice.variant,
        {
            "gate": found.verdict,
            "gate_ratio": ratio,
            "gate_baseline": found.baseline,
            "gate_floor": found.settings.floor,
        },
    )
    note_verdict(request.node, found.verdict)
    if found.verdict == FAIL:
        pytest.fail(found.reason, pytrace=False)
    if found.verdict == INCONCLUSIVE and edgekit_options.require_device:
        pytest.fail(f"inconclusive: {found.reason}", pytrace=False)
    if found.verdict == INCONCLUSIVE:
        pytest.skip(f"inconclusive: {found.reason}")
