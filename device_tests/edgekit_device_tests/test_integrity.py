"""What arrived on the device is what was built."""

from edgekit.devices import DeployedBundle


def test_every_hash_verifies_on_the_device(edgekit_deployed: DeployedBundle) -> None:
    """Each member there has the sha256 of the manifest here."""
    assert edgekit_deployed.verify().members == edgekit_deployed.manifest.members
