"""What a target's profile says of a converted file before it is packed: what cannot run, and what stays on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgekit.conversion import Inspection, Layer
from edgekit.errors import ConversionError
from edgekit.profiles import Delegate, DeviceProfile
from edgekit.versions import version_key

NAMED = 5  # operators that a note names; it counts the others

_SELECT_TF = "Flex"  # how TFLite names TensorFlow's own operators


def check(profile: DeviceProfile, inspection: Inspection, *, variant: str) -> None:
    """Raise ConversionError when the target cannot run the file: too large, or with operators that it does not have."""
    if profile.max_bytes is not None and inspection.bytes > profile.max_bytes:
        raise ConversionError(
            f"{variant} has {inspection.bytes:,} bytes, and target '{profile.name}' takes {profile.max_bytes:,}: "
            "compress the model, or choose a smaller precision"
        )
    _check_runtime(profile, inspection, variant)
    foreign = [layer for layer in inspection.layers if layer.type.startswith(_SELECT_TF)]
    if foreign and not profile.select_tf:
        raise ConversionError(
            f"{variant} needs TensorFlow's own operators, which target '{profile.name}' does not have: "
            f"{_listed(foreign)}; write these layers with other operations, or set select_tf in the profile"
        )


def _check_runtime(profile: DeviceProfile, inspection: Inspection, variant: str) -> None:
    if profile.runtime_version is None:
        return
    has = version_key(profile.runtime_version)
    newer = [layer for layer in inspection.layers if layer.runtime and version_key(layer.runtime) > has]
    if newer:
        least = max((layer.runtime for layer in newer if layer.runtime), key=version_key)
        raise ConversionError(
            f"{variant} needs the TFLite runtime of TensorFlow {least}, and target '{profile.name}' has that of "
            f"{profile.runtime_version}: {_listed(newer)}; choose another precision or write these layers with older "
            "operations, or set runtime_version in the profile"
        )


def delegate_notes(profile: DeviceProfile, inspection: Inspection, *, precision: str) -> Iterator[str]:
    """For each delegate of the target, one sentence on what it takes of the file."""
    for name, delegate in profile.delegates.items():
        yield f"{profile.name}'s {name} delegate {_taken(delegate, inspection.layers, precision)}"


def _taken(delegate: Delegate, layers: Sequence[Layer], precision: str) -> str:
    if precision not in delegate.precisions:
        return f"takes nothing of it: it is for {', '.join(delegate.precisions)}"
    left = [layer for layer in layers if layer.type not in delegate.operators]
    if not left:
        return f"has all {len(layers)} operators"
    return f"has {len(layers) - len(left)} of {len(layers)} operators; the CPU computes {_listed(left)}"


def _listed(layers: Iterable[Layer]) -> str:
    """The first few as "GATHER (table)"."""
    words = [f"{layer.type} ({layer.name})" for layer in layers]
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return f"{', '.join(words[:NAMED])}{more}"
