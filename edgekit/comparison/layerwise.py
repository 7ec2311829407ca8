"""Two converted files of one model side by side, float and quantized, activation by activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.comparison.effects import OutputEffects
from edgekit.comparison.layers import LayerComparison, LayerParity
from edgekit.comparison.parity import cosine_of, decibels
from edgekit.comparison.reasons import explain
from edgekit.comparison.statistics import LayerStatistics, Observed
from edgekit.errors import ConfigError, ConversionError
from edgekit.tensors import Array
from edgekit.tracing import INPUT_OPERATOR, Kernel, Trace, TracedTensor, Values, is_generated, keras_layers, short_name

Sample = tuple[Values, Values]  # one sample's inputs by tensor name: of the float and of the quantized file


@dataclass(frozen=True)
class Pair:
    """One activation of the quantized file and what it is called in the float file."""

    tensor: TracedTensor
    float_name: str


def compare_layers(
    reference: Trace,
    quantized: Trace,
    samples: Sequence[Sample],
    *,
    known_layers: Mapping[str, bool] | None,
) -> LayerComparison:
    """Run both over `samples` and say where the error comes in.

    `known_layers` are the Keras layers in the model's order, each with whether it has weights; None when nobody knows
    them. Raises ConfigError when the reference holds integers, ConversionError when the files have no activation in
    common.
    """
    integer = next((tensor.name for tensor in reference.tensors if tensor.grid is not None), None)
    if integer is not None:
        raise ConfigError(
            f"the first file holds integers ('{integer}'): give the float one first, the quantized second"
        )
    pairs = _pairs(reference, quantized, samples[0])
    gathered = {pair.tensor.name: LayerStatistics(pair.tensor) for pair in pairs}
    effects = OutputEffects(reference, {pair.tensor.name: pair.float_name for pair in pairs})
    observe = _observer(reference, quantized, pairs)
    for sample in samples:
        float_run, observed = observe(sample)
        for name, seen in observed.items():
            gathered[name].add(seen)
        effects.keep(sample[0], float_run, {name: seen.introduced for name, seen in observed.items()})
    output_db = effects.measure()
    return LayerComparison(
        samples=len(samples),
        output_samples=effects.samples,
        layers=tuple(
            _parity(found, output_db[name], reference, quantized, known_layers) for name, found in gathered.items()
        ),
        unmatched=(
            *(tensor.name for tensor in quantized.tensors if tensor.name not in gathered),
            *quantized.ambiguous,
        ),
    )


def _observer(
    reference: Trace, quantized: Trace, pairs: Sequence[Pair]
) -> Callable[[Sample], tuple[Values, dict[str, Observed]]]:
    """What runs one sample through both files, whole and apart; an input's layer is its rounding alone."""
    float_names, names = [pair.float_name for pair in pairs], [pair.tensor.name for pair in pairs]
    float_apart, quantized_apart = reference.cut(float_names, float_names), quantized.cut(names, names)

    def observe(sample: Sample) -> tuple[Values, dict[str, Observed]]:
        float_run, quantized_run = reference.run(sample[0]), quantized.run(sample[1])
        given = {pair.tensor.name: _on_grid(pair.tensor, float_run[pair.float_name]) for pair in pairs}
        wanted = {**float_run, **float_apart({**sample[0], **dict(zip(float_names, given.values(), strict=True))})}
        got = {**given, **quantized_apart({**sample[1], **given})}
        return float_run, {
            pair.tensor.name: Observed(
                float_run=float_run[pair.float_name],
                quantized_run=quantized_run[pair.tensor.name],
                float_apart=wanted[pair.float_name],
                quantized_apart=got[pair.tensor.name],
            )
            for pair in pairs
        }

    return observe


def _pairs(reference: Trace, quantized: Trace, sample: Sample) -> list[Pair]:
    """Activations that both files have, by key and by shape."""
    names = {
        tensor.name: reference.activations[tensor.key]
        for tensor in quantized.tensors
        if tensor.key in reference.activations and not is_generated(tensor.key)
    }
    wanted, got = reference.run(sample[0]), quantized.run(sample[1])
    pairs = [
        Pair(tensor, names[tensor.name])
        for tensor in quantized.tensors
        if tensor.name in names and wanted[names[tensor.name]].shape == got[tensor.name].shape
    ]
    if all(pair.tensor.operator == INPUT_OPERATOR for pair in pairs):
        raise ConversionError(
            "the two files share no activation by name: compare files of one model, or give the .keras model first"
        )
    return pairs


def _on_grid(tensor: TracedTensor, values: Array) -> Array:
    return values if tensor.grid is None else tensor.grid.round(values)


def _parity(
    statistics: LayerStatistics,
    output_db: float | None,
    reference: Trace,
    quantized: Trace,
    known_layers: Mapping[str, bool] | None,
) -> LayerParity:
    tensor, found = statistics.tensor, statistics
    known = known_layers or {}
    layers = keras_layers(tensor.scopes, known)
    leading = sorted(layers, key=known.__getitem__, reverse=True)  # those with weights first, else in order
    return LayerParity(
        name=leading[0] if leading else short_name(tensor.scopes),
        keras_layers=layers,
        tensor=tensor.name,
        operator=tensor.operator,
        snr_db=decibels(found.signal, found.noise),
        introduced_db=decibels(found.own_signal, found.own_noise),
        output_db=output_db,
        cosine=cosine_of(found.dot, found.signal, found.power),
        saturation=None if tensor.grid is None else found.outside / found.count,
        rounding_share=_rounding_share(found),
        setting=tensor.setting,
        readers=tensor.readers,
        reasons=explain(found, _kernels(tensor, reference.kernels, quantized.kernels)),
    )


def _rounding_share(found: LayerStatistics) -> float | None:
    """Rounding and the kernel's error may cancel in part, so that the share is held to 1."""
    return min(1.0, found.rounding_noise / found.own_noise) if found.own_noise else None


def _kernels(
    tensor: TracedTensor, wanted: Mapping[str, Kernel], got: Mapping[str, Kernel]
) -> tuple[Kernel, Kernel] | None:
    if tensor.kernel is None or tensor.kernel not in wanted:
        return None
    return wanted[tensor.kernel], got[tensor.kernel]
