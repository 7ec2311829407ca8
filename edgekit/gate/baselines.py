"""What of two bundles the gate can compare."""

from __future__ import annotations

from edgekit.errors import ConfigError
from edgekit.manifest import Manifest
from edgekit.runtime.choosing import ranked


def shared_variants(candidate: Manifest, baseline: Manifest) -> tuple[str, ...]:
    """The variants that both have, the candidate's best first."""
    known = {variant.id for variant in baseline.variants}
    return tuple(variant.id for variant in ranked(candidate) if variant.id in known)


def check_baseline(candidate: Manifest, baseline: Manifest, variant: str | None = None) -> None:
    """Raise ConfigError for a baseline of another model, or without the variant that is to be compared."""
    if candidate.name != baseline.name:
        raise ConfigError(
            f"the baseline is a bundle of '{baseline.name}', the one under test of '{candidate.name}': "
            "give an older bundle of the same model"
        )
    shared = shared_variants(candidate, baseline)
    if not shared or (variant is not None and variant not in shared):
        wanted = "a variant that both bundles have" if variant is None else f"'{variant}' in both bundles"
        raise ConfigError(
            f"the gate needs {wanted}; the baseline has {_named(baseline)}, the one under test {_named(candidate)}"
        )


def _named(manifest: Manifest) -> str:
    return ", ".join(variant.id for variant in manifest.variants) or "none"
