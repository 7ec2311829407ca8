"""What a search may vary: steps with settings for single layers, the target's precisions, and layers kept at others."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any  # Any: a keras.Model

from edgekit.compression import factorization, pruning
from edgekit.compression.channels.groups import Group, channel_graph
from edgekit.compression.flattening import flat
from edgekit.compression.kernels import Kernel, kernels
from edgekit.compression.steps import Factorize, Prune, PruneChannels, Step
from edgekit.errors import ModelError
from edgekit.search_settings import SearchSettings

Params = Mapping[str, float | str]  # dimension -> value

PRECISION = "precision"
SAME = "same"  # of a layer: the precision of the file
OTHERS = "*"  # stands for all layers beyond the largest
MOST_LAYERS = 24  # that have dimensions of their own; the others of a method share one
MIXED = {"tflite": ("fp32", "int4-weights"), "onnx": ("fp32",)}  # what single layers of an integer file may be kept at
INTEGERS = ("int8", "int8-float-io", "int16x8", "dynamic-int8", "int4-weights")


@dataclass(frozen=True)
class Scale:
    """Evenly spaced values, both ends included."""

    low: float
    high: float
    step: float

    @property
    def values(self) -> tuple[float, ...]:
        """All of them, ascending."""
        count = round((self.high - self.low) / self.step)
        return tuple(round(self.low + index * self.step, 6) for index in range(count + 1))


Dimension = Scale | tuple[str, ...]

CHANNELS, ENERGY, SPARSITY, KEPT = "channels", "energy", "sparsity", "kept"
# 0 and 1 leave a layer as it is. 7/8 of the channels gone, a tenth of the energy lost and 90 % of zeros are beyond what
# fine-tuning brings back in the networks of docs/compression-results.md.
SCALES: Mapping[str, Scale] = {
    CHANNELS: Scale(0.0, 0.875, 0.125),
    ENERGY: Scale(0.8, 1.0, 0.05),
    SPARSITY: Scale(0.0, 0.9, 0.1),
}
NEUTRAL: Mapping[str, float | str] = {CHANNELS: 0.0, ENERGY: 1.0, SPARSITY: 0.0, KEPT: SAME}
_METHOD_OF = {"prune-channels": CHANNELS, "factorize": ENERGY, "prune": SPARSITY}


@dataclass(frozen=True)
class Recipe:
    """One point of the space, in edgekit's own words. Recipes with equal words are one build."""

    steps: tuple[Step, ...]
    precision: str
    kept: Mapping[str, str] = field(default_factory=dict)  # pattern of layer names -> precision


@dataclass(frozen=True)
class Space:
    """The dimensions, and which layers each of them settles."""

    precisions: tuple[str, ...]
    members: Mapping[str, Mapping[str, tuple[str, ...]]]  # method -> name of a dimension -> layers
    mixed: tuple[str, ...] = ()  # what single layers may be kept at
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # those with weights, grouped as dimensions

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """By name: `precision`, `channels/conv1`, `kept/conv1`."""
        found: dict[str, Dimension] = {PRECISION: self.precisions}
        for method, names in self.members.items():
            kinds: Dimension = SCALES.get(method, (SAME, *self.mixed))
            found |= {f"{method}/{name}": kinds for name in names}
        return found

    def neutral(self) -> dict[str, float | str]:
        """The parameters that change nothing, at the first precision."""
        return {
            name: self.precisions[0] if name == PRECISION else NEUTRAL[name.split("/", 1)[0]]
            for name in self.dimensions
        }

    def recipe(self, params: Params, epochs: int) -> Recipe:
        """What these parameters stand for, with so many epochs of training over all steps; 0 trains nothing."""
        precision = str(params[PRECISION])
        made = list(self._steps(params))
        each = max(1, epochs // max(1, len(made))) if epochs else 0
        steps = tuple(kind(**settings, epochs=each) for kind, settings in made)
        kept = {
            glob.escape(layer): str(value)
            for layer, value in self._values(KEPT, params)
            if value not in (SAME, precision) and precision in INTEGERS
        }
        return Recipe(steps, precision, kept)

    def _steps(self, params: Params) -> Iterator[tuple[type[Any], dict[str, Any]]]:
        ratios = dict(self._values(CHANNELS, params))
        energies = {layer: value for layer, value in self._values(ENERGY, params) if value != NEUTRAL[ENERGY]}
        sparsities = {layer: value for layer, value in self._values(SPARSITY, params) if value}
        if any(ratios.values()):
            yield PruneChannels, _settings("ratio", ratios, tuple(self._every(CHANNELS)))
        if energies:
            yield Factorize, _settings("energy", energies, tuple(self._every(ENERGY)))
        if sparsities:
            yield Prune, _settings("sparsity", sparsities, tuple(self._every(SPARSITY)))

    def _values(self, method: str, params: Params) -> Iterator[tuple[str, Any]]:
        for name, layers in self.members.get(method, {}).items():
            value = params[f"{method}/{name}"]
            own = round(value, 6) if isinstance(value, float) else value  # Optuna adds steps up: 0.9500000000000001
            yield from ((layer, own) for layer in layers)

    def _every(self, method: str) -> Iterator[str]:
        for layers in self.members[method].values():
            yield from layers


def _settings(key: str, values: Mapping[str, float], every: Sequence[str]) -> dict[str, Any]:
    """A step's value and its `layers`: the commonest value stands for all, the others are named."""
    given = {layer: value for layer, value in values.items() if value}
    counts = list(given.values())
    common = max(sorted(set(counts)), key=counts.count)
    others: dict[str, object] = {}
    for layer in every:
        value = given.get(layer, 0.0)
        if value != common:
            others[glob.escape(layer)] = {key: value} if value else "skip"
    return {key: common, "layers": others}


def make_space(model: Any, precisions: Sequence[str], format_name: str, settings: SearchSettings) -> Space:
    """The space of a Keras model. Raises ModelError when there is nothing in it to vary."""
    inner = flat(model)
    tables = [kernel for kernel in kernels(inner) if kernel.kind != "depthwise"]
    sizes = {kernel.name: kernel.size for kernel in kernels(inner)}
    members: dict[str, dict[str, tuple[str, ...]]] = {}
    for step in settings.steps:
        method = _METHOD_OF[step]
        layers = _channel_groups(inner) if method == CHANNELS else [(kernel.name,) for kernel in _fit(tables, method)]
        members[method] = _named(layers, sizes)
    mixed = MIXED.get(format_name, ()) if any(name in INTEGERS for name in precisions) else ()
    weighted = _named([(name,) for name in dict.fromkeys(kernel.name.split("/")[0] for kernel in tables)], sizes)
    if mixed:
        members[KEPT] = weighted
    members = {method: names for method, names in members.items() if names}
    if not members and len(precisions) < 2:
        raise ModelError(
            f"model '{inner.name}' leaves nothing to search: no layer that {', '.join(settings.steps)} can work on, "
            f"and one precision ({precisions[0]})"
        )
    return Space(tuple(precisions), members, mixed, weighted)


def _channel_groups(model: Any) -> list[tuple[str, ...]]:
    def free(group: Group) -> bool:
        return len(group.units) > 1

    return [tuple(group.layers) for group in channel_graph(model).groups if free(group)]


def _fit(tables: Sequence[Kernel], method: str) -> list[Kernel]:
    """The kernels that the method's step would not refuse."""
    if method == ENERGY:
        return [kernel for kernel in tables if factorization.unfit(kernel, Factorize(energy=1.0)) is None]
    return [kernel for kernel in tables if pruning.unfit(kernel, Prune(0.5)) is None]


def _named(groups: Sequence[tuple[str, ...]], sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Each group under its first layer's name, the largest MOST_LAYERS apart and the rest together, in model order."""
    ranked = sorted(groups, key=lambda layers: -sum(sizes.get(layer, 0) for layer in layers))
    large = set(ranked[:MOST_LAYERS])
    named = {layers[0]: layers for layers in groups if layers in large}
    rest = tuple(layer for layers in groups if layers not in large for layer in layers)
    return {**named, OTHERS: rest} if rest else named
