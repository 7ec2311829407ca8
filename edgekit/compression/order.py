"""Which steps a recipe may follow with which, and what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.compression.steps import (
    Cluster,
    Distill,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    Step,
    step_name,
)
from edgekit.errors import ConfigError

# What a later step would undo: grids and shared values are left by any training that does not know of them, and a
# student or thinner factors start without their parent's zeros.
_UNDONE_BY: Mapping[type[Step], tuple[type[Step], ...]] = {
    QuantizeAware: (Distill, Prune, PruneChannels, Cluster, Factorize, QuantizeAware, QuantizeWeights),
    QuantizeWeights: (Distill, Prune, PruneChannels, Cluster, Factorize, QuantizeAware, QuantizeWeights),
    Cluster: (Distill, Prune, PruneChannels, Factorize),
    Prune: (Distill, Factorize),
}


def check_order(recipe: Sequence[Step]) -> None:
    """Refuse what is no step, and a step that a later one would undo. Raises ConfigError."""
    for step in recipe:
        if not isinstance(step, Step):
            raise ConfigError(f"recipe: {step!r} is not a step; give Distill(…), Prune(…) and the like")
    for position, step in enumerate(recipe):
        for later in recipe[position + 1 :]:
            if isinstance(later, _UNDONE_BY.get(type(step), ())):
                earlier, after = step_name(step), step_name(later)
                raise ConfigError(f"step '{earlier}' comes before '{after}', which would undo it; put '{after}' first")


def needs_data(step: Step) -> bool:
    """True when a step trains, calibrates, or weighs its weights by gradients."""
    if isinstance(step, QuantizeAware):
        return True
    return step.epochs > 0 or getattr(step, "importance", "") in ("gradient", "taylor")
