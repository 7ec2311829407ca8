"""From a Keras model to what converters take: SavedModels under the Keras names, float and simulated int8."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any  # Any: keras models and tensorflow functions, which have no types

from edgekit.compression.fake_quantization import trained_simulation
from edgekit.conversion import FIXED_SIGNATURE, INPUTS_OUTPUTS, SIGNATURES, Source
from edgekit.errors import ConversionError, ModelError, OutputError
from edgekit.loading import LoadedModel, import_keras
from edgekit.states import State, at_start, chosen_states
from edgekit.tensors import TensorSpec
from edgekit.wording import said

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def export_source(
    loaded: LoadedModel, work: Path, *, state: str | None = None, signatures: Collection[str] = SIGNATURES
) -> Source:
    """Write the SavedModels of a build into `work`, once for all converters.

    `state`, one of STATE_FORMS, says how files have what a model with `stateful=True` keeps; `signatures` are those
    that the converters read, for each takes its time. Raises ConversionError, ModelError and ConfigError.
    """
    states = chosen_states(loaded.model, state)
    ports = states if state == INPUTS_OUTPUTS else ()
    inputs = (*loaded.inputs, *(kept.taken for kept in ports))
    outputs = (*loaded.outputs, *(kept.given for kept in ports))
    check_names(inputs, outputs)
    check_float(loaded)
    if states and loaded.other_shapes:
        raise ModelError(f"'{loaded.name}' keeps state from call to call: give each input one length, not several")
    if states and loaded.activation_ranges is not None:
        raise ModelError(
            f"'{loaded.name}' keeps state from call to call, and has ranges trained by QuantizeAware, which only a "
            "model without state keeps in its files: bring the model as it was before that step"
        )
    float_model, trained_model = work / "float-saved-model", None
    if states:
        with at_start(states):
            _export_stateful(loaded, float_model, states, inputs)
    else:
        _export(loaded.model, loaded, float_model, signatures)
        if loaded.activation_ranges is not None:
            trained_model = work / "trained-saved-model"
            _export(trained_simulation(loaded).model, loaded, trained_model, signatures)
    layers = loaded.model._flatten_layers(include_self=False, recursive=True)
    names = tuple(dict.fromkeys(layer.name for layer in layers))
    others = tuple(shapes.name for shapes in loaded.other_shapes)
    return Source(
        loaded.name, inputs, outputs, float_model, trained_model, work, names,
        state=state, states=tuple(kept.port for kept in ports), other_signatures=others,
    )  # fmt: skip


def check_names(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise ModelError on a name that two share, or that converters would change, so that nobody could find it."""
    for specs in (inputs, outputs):
        names = [spec.name for spec in specs]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ModelError(
                    f"the name of '{name}' cannot be exported: use letters, digits and '_', a letter first; "
                    "rename the layer in Keras"
                )
            if names.count(name) > 1:
                raise ModelError(f"{names.count(name)} inputs or outputs are called '{name}': rename a layer in Keras")


def check_float(loaded: LoadedModel) -> None:
    """Raise ModelError on a layer that Keras has quantized already: no converter takes its integer kernels."""
    for layer in loaded.model._flatten_layers(include_self=False, recursive=True):
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            raise ModelError(
                f"layer '{layer.name}' was quantized by Keras already ({mode}): bring the model as it was before "
                "`quantize`, and name a precision for its conversion"
            )


Serve = Callable[..., dict[str, Any]]  # tensors by input name -> tensors by output name


def _export(model: Any, loaded: LoadedModel, folder: Path, wanted: Collection[str]) -> None:
    def serve(**inputs: Any) -> dict[str, Any]:
        return _outputs(model, loaded, inputs)

    def serve_others(**inputs: Any) -> dict[str, Any]:
        return _outputs(model.call, loaded, inputs)  # `call` does not compare shapes with those of the model's inputs

    batches = {name: 1 if name == FIXED_SIGNATURE else None for name in SIGNATURES if name in wanted}
    signatures = {name: (serve, _specs(loaded.inputs, batch)) for name, batch in batches.items()}
    for other in loaded.other_shapes:
        specs = [replace(spec, shape=(None, *other.shapes.get(spec.name, spec.shape[1:]))) for spec in loaded.inputs]
        signatures[other.name] = (serve_others, _specs(specs, 1))
    _save(loaded.name, folder, signatures, model.variables)


def save_functions(
    name: str,
    folder: Path,
    functions: Mapping[str, tuple[Serve, Sequence[TensorSpec]]],
    variables: Sequence[Any],
    *,
    constants: Sequence[TensorSpec] = (),
) -> None:
    """Write a SavedModel of functions by signature name, each with what it takes, at batch 1; it holds `variables`.

    Each function takes the `constants`, too, which have no batch. Raises ConversionError and OutputError.
    """
    import tensorflow as tf

    taken = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in constants}
    traced = {signature: (serve, _specs(inputs, 1) | taken) for signature, (serve, inputs) in functions.items()}
    _save(name, folder, traced, variables)


def _export_stateful(loaded: LoadedModel, folder: Path, states: Sequence[State], inputs: Sequence[TensorSpec]) -> None:
    """Where states are among the inputs, they become outputs; otherwise the function reads and writes variables."""

    def serve(**tensors: Any) -> dict[str, Any]:
        taken = [(kept.variable, tensors.pop(kept.taken.name)) for kept in states if kept.taken in inputs]
        if not taken:
            return _outputs(loaded.model, loaded, tensors)
        with import_keras().StatelessScope(taken) as scope:
            outputs = _outputs(loaded.model, loaded, tensors)
        return outputs | {kept.given.name: scope.get_current_value(kept.variable) for kept in states}

    variables = [*loaded.model.variables, *(kept.variable for kept in states)]
    _save(loaded.name, folder, {FIXED_SIGNATURE: (serve, _specs(inputs, 1))}, variables)


def _outputs(call: Callable[..., Any], loaded: LoadedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    outputs = import_keras().tree.flatten(call(loaded.pack(inputs), training=False))
    return {spec.name: output for spec, output in zip(loaded.outputs, outputs, strict=True)}


def _specs(inputs: Sequence[TensorSpec], batch: int | None) -> dict[str, Any]:
    import tensorflow as tf

    return {spec.name: tf.TensorSpec((batch, *spec.shape[1:]), spec.dtype, name=spec.name) for spec in inputs}


def _save(
    name: str, folder: Path, signatures: Mapping[str, tuple[Serve, dict[str, Any]]], variables: Sequence[Any]
) -> None:
    """Trace the function of each signature, and write a SavedModel that holds `variables`."""
    import tensorflow as tf

    traced = {}
    for signature, (serve, specs) in signatures.items():
        try:
            with _inner_functions_inlined():
                traced[signature] = tf.function(serve).get_concrete_function(**specs)
        except (ValueError, TypeError) as problem:
            raise ConversionError(f"'{name}' cannot be traced: {said(problem)}") from problem
    module = tf.Module()
    module.variables_kept = [variable.value for variable in variables]
    try:
        tf.saved_model.save(module, str(folder), signatures=traced)
    except (OSError, tf.errors.OpError) as problem:
        raise OutputError(f"cannot write {folder}: {str(problem).splitlines()[0]}; free some space") from problem


@contextmanager
def _inner_functions_inlined() -> Iterator[None]:
    """Keras computes grouped convolutions in a function of its own, which ONNX has no operator for."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
