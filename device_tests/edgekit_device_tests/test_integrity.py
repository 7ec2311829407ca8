"""What arrived on the device is what was built, and what was signed."""

import pytest

from edgekit.bundle import Bundle
from edgekit.devices import DeployedBundle
from edgekit.errors import ConfigError
from edgekit.pytest_plugin import Record
from edgekit.trust import INVALID, REVOKED, describe, signers

WHOLE = "bundle"  # under which figures of no single variant are kept


def test_every_hash_verifies_on_the_device(edgekit_deployed: DeployedBundle) -> None:
    """Each member that the device needs has the sha256 of the manifest here."""
    assert edgekit_deployed.members
    assert edgekit_deployed.verify().members == edgekit_deployed.members


def test_no_signature_is_false(edgekit_bundle: Bundle, edgekit_record: Record) -> None:
    """Signatures by keys that are known here are of this manifest, and no key of them was revoked."""
    if not edgekit_bundle.signatures:
        pytest.skip("the bundle is not signed: edgekit sign")
    try:
        found = signers(edgekit_bundle)
    except ConfigError as problem:
        pytest.skip(str(problem))
    edgekit_record(WHOLE, {"signatures": describe(found)})
    assert not [signer for signer in found if signer.status in (INVALID, REVOKED)], describe(found)
