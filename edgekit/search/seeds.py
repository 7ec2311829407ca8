"""Where a search begins: the plain file, even cuts, and what the sensitivity table says each layer can bear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgekit.search.sensitivity import INT4, INT8, Sensitivity
from edgekit.search.space import CHANNELS, ENERGY, KEPT, NEUTRAL, PRECISION, SCALES, SPARSITY, Params, Space

EVEN_RATIOS = (0.5, 0.25, 0.625, 0.75)  # of the channels of every layer
EVEN_SPARSITIES = (0.8, 0.5)
TOLERANCES = (50, 75, 25, 90)  # percentiles of the table's increases of the loss
SHARE = 0.5  # of the trials, at most, that are not the sampler's own


def seeds(space: Space, table: Sensitivity, trials: int) -> list[Params]:
    """The first trials, none twice, the most useful first, and no more than leave the sampler its share."""
    found: list[Params] = []
    for params in _ordered(space, table):
        if params not in found:
            found.append(params)
    return found[: max(1, int(SHARE * trials))]


def plain(space: Space) -> Params:
    """The parameters of the plain file: nothing is compressed, and the first precision."""
    return space.neutral()


def _ordered(space: Space, table: Sensitivity) -> Iterator[Params]:
    neutral = space.neutral()
    yield plain(space)
    yield from (neutral | _even(space, CHANNELS, ratio) for ratio in EVEN_RATIOS[:2] if CHANNELS in space.members)
    for percentile in TOLERANCES:
        yield neutral | borne(space, table, CHANNELS, percentile)
    yield from (neutral | _even(space, CHANNELS, ratio) for ratio in EVEN_RATIOS[2:] if CHANNELS in space.members)
    for percentile in TOLERANCES[:2]:
        yield neutral | borne(space, table, CHANNELS, percentile) | borne(space, table, ENERGY, percentile)
        yield neutral | borne(space, table, CHANNELS, percentile) | _mixed(space, table)
    for sparsity in EVEN_SPARSITIES:
        cut = borne(space, table, CHANNELS, TOLERANCES[0])
        yield neutral | cut | _even(space, SPARSITY, sparsity)
    yield from (neutral | {PRECISION: precision} for precision in space.precisions[1:])


def _even(space: Space, method: str, value: float) -> dict[str, float | str]:
    return {f"{method}/{name}": value for name in space.members.get(method, {})}


def borne(space: Space, table: Sensitivity, method: str, percentile: float) -> dict[str, float | str]:
    """Each layer at its strongest level whose increase of the loss is within this percentile of all increases."""
    names = space.members.get(method, {})
    increases: Mapping[str, Mapping[float, float]] = {name: table.increases(method, name) for name in names}
    everything = [value for levels in increases.values() for value in levels.values()]
    if not everything:
        return {}
    limit = float(np.percentile(everything, percentile))
    best = min if method == ENERGY else max  # less energy kept is the stronger
    scale = SCALES[method].values
    return {
        f"{method}/{name}": best(
            (level for level, value in levels.items() if value <= limit and level in scale),
            default=float(NEUTRAL[method]),
        )
        for name, levels in increases.items()
    }


def _mixed(space: Space, table: Sensitivity) -> dict[str, float | str]:
    """The layer that int8 costs most in float, and the half that int4 costs least in int4."""
    names = list(space.members.get(KEPT, {}))
    if not names:
        return {}
    found: dict[str, float | str] = {}
    if "int4-weights" in space.mixed:
        easy = sorted(names, key=lambda name: table.increase(INT4, name))[: len(names) // 2]
        found |= {f"{KEPT}/{name}": "int4-weights" for name in easy}
    hard = max(names, key=lambda name: (table.increase(INT8, name), name))
    return found | {f"{KEPT}/{hard}": "fp32"}
