"""A causal decoder on its way to a `.tflite` that goes on from token to token: two signatures and a cache in variables.

`prefill` reads a piece of a prompt and gives no scores, `decode` reads one token and gives the scores of the next. Both
work on the same keys and values, which stay inside the file's variables: nobody hands them in and out.

The SavedModel takes the model's matrices as inputs, and they lie beside it: TensorFlow's converter keeps a copy of each
constant for every form that it passes through, ten times the model and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: TensorFlow's tensors and Keras's variables, which have no types

import numpy as np

from edgekit.conversion import VARIABLES, Source
from edgekit.errors import ConfigError, OutputError
from edgekit.exporting import check_float, save_functions
from edgekit.language.caching import cache_shapes, step
from edgekit.loading import LoadedModel, import_keras
from edgekit.manifest import PREFILL
from edgekit.tensors import TensorSpec

DECODE = "decode"
POSITION, NEXT, LOGITS = "position", "next", "logits"
DEFAULT_PREFILL = 32
_MATRIX = "matrix_"  # the name of an input that becomes a constant, before its number
_TABLE = "embeddings"  # what Keras calls a table whose rows are looked up


def export_decoder(loaded: LoadedModel, work: Path, *, context: int, prefill: int = DEFAULT_PREFILL) -> Source:
    """Write the SavedModel of a decoder that keeps `context` tokens and reads prompts in pieces of `prefill`.

    `decode` takes tokens (1, 1) and position (1,), how many tokens came before, and gives logits (1, vocabulary).
    `prefill` takes tokens (1, prefill) and position, and gives next (1,), the position behind them. A piece that is
    padded is harmless: later tokens overwrite what stands behind the position, which nothing attends to. A position of
    0 begins anew. Raises ConfigError, and ModelError for a model without attention that can keep anything.
    """
    if prefill < 1 or context < 1 or context % prefill:
        raise ConfigError(f"context is {context}, expected a multiple of prefill, which is {prefill}")
    kept, matrices = _caches(loaded.model, context), _matrices(loaded.model)
    check_float(loaded)

    def run(tokens: Any, position: Any, given: Mapping[str, Any]) -> Any:
        caches = {layer: (keys.value, values.value) for layer, (keys, values) in kept.items()}
        with _holding(matrices, given):
            outputs, after = step(loaded.model, tokens, position[0], caches)
        for layer, pair in after.items():
            for variable, new in zip(kept[layer], pair, strict=True):
                variable.assign(new)
        return outputs

    def decode(tokens: Any, position: Any, **given: Any) -> dict[str, Any]:
        return {LOGITS: run(tokens, position, given)[:, -1]}

    def read(tokens: Any, position: Any, **given: Any) -> dict[str, Any]:
        run(tokens, position, given)
        return {NEXT: position + prefill}

    tokens_name = loaded.inputs[0].name
    inputs = (TensorSpec(tokens_name, (None, 1), "int32"), TensorSpec(POSITION, (None,), "int32"))
    outputs = (TensorSpec(LOGITS, (None, loaded.outputs[0].shape[-1]), loaded.outputs[0].dtype),)
    longer = (TensorSpec(tokens_name, (None, prefill), "int32"), inputs[1])
    folder = work / "float-saved-model"
    held = [variable for variable in loaded.model.variables if not _is_matrix(variable)]
    variables = [*held, *(variable for pair in kept.values() for variable in pair)]
    functions = {DECODE: (decode, inputs), PREFILL: (read, longer)}
    constants = _written(matrices, work / "constants")
    save_functions(loaded.name, folder, functions, variables, constants=constants)
    names = tuple(dict.fromkeys(layer.name for layer in loaded.model._flatten_layers(include_self=False)))
    return Source(
        loaded.name, inputs, outputs, folder, None, work, names,
        state=VARIABLES, signature=DECODE, other_signatures=(PREFILL,), constants=work / "constants",
    )  # fmt: skip


def _caches(model: Any, context: int) -> dict[str, tuple[Any, Any]]:
    """Layer -> variables of its keys and values, all zero."""
    keras = import_keras()
    return {
        shape.layer: tuple(
            keras.Variable(keras.ops.zeros((1, shape.groups, context, shape.size)), name=f"{shape.layer}_{part}")
            for part in ("keys", "values")
        )
        for shape in cache_shapes(model)
    }


def _matrices(model: Any) -> dict[str, Any]:
    """Name of an input -> the variable that it is given for."""
    return {f"{_MATRIX}{number}": variable for number, variable in enumerate(model.variables) if _is_matrix(variable)}


def _is_matrix(variable: Any) -> bool:
    """Whether the converter need not see its values: what has another rank is small, or has operators of its own."""
    return len(variable.shape) == 2 and variable.dtype == "float32"


def _is_turned(variable: Any) -> bool:
    """Whether a matrix is given as TFLite stores it, (out, in): all but tables, whose rows are looked up."""
    return bool(variable.name != _TABLE)


def _holding(matrices: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """A context in which the variables have the values that are given for them."""
    keras = import_keras()
    pairs = [(matrices[name], tensor) for name, tensor in given.items()]
    return keras.StatelessScope(
        [(variable, keras.ops.transpose(tensor) if _is_turned(variable) else tensor) for variable, tensor in pairs]
    )


def _written(variables: Mapping[str, Any], folder: Path) -> tuple[TensorSpec, ...]:
    """What is in the folder, where each variable gets an .npy file."""
    found = []
    try:
        folder.mkdir()
        for name, variable in variables.items():  # one at a time: their copies together would be as large as the model
            values = variable.numpy()
            values = values.T if _is_turned(variable) else values
            np.save(folder / f"{name}.npy", values)
            found.append(TensorSpec(name, values.shape, str(values.dtype)))
    except OSError as problem:
        raise OutputError(f"cannot write {folder}: {problem.strerror}; free some space") from problem
    return tuple(found)
