"""Models that come without a graph or without weights: architectures of the user's own, and subclassed models."""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any  # Any: models of both Kerases

import numpy as np

from edgekit.errors import ModelError
from edgekit.kerases import import_keras
from edgekit.model_files import Kind
from edgekit.opening_files import examine_apart
from edgekit.references import import_function
from edgekit.wording import said

_TRACED_TOLERANCE = 1e-5  # of the output's scale
POST_TRAINING = (
    "convert it after training without edgekit (model.export(path, format='litert')), "
    "or rebuild it as Functional or Sequential"
)


def build_architecture(architecture: str | Callable[[], Any]) -> Any:
    """The model that a function, or "module:function", builds. Raises ModelError that says how it failed."""
    if isinstance(architecture, str):
        build = import_function(architecture, what="architecture", error=ModelError)
        return build()
    try:
        return architecture()
    except Exception as problem:  # the user's code may raise anything
        raise ModelError(f"architecture: the function failed with {type(problem).__name__}: {problem}") from problem


def load_weights(model: Any, path: Path) -> None:
    """Load the weights of a file into a model of either Keras. Raises ModelError when they do not fit."""
    if not (isinstance(model, import_keras().Model) or is_tf_keras_model(model)):
        raise ModelError(f"architecture: expected a function that returns a Keras model, got {type(model).__name__}")
    if not path.exists():
        raise ModelError(f"no model file {path}")
    kind, legacy = examine_apart(path)
    if kind in (Kind.SAVED_MODEL, Kind.PLAIN_SAVED_MODEL):
        raise ModelError(f"{path}: a SavedModel needs no architecture; load it without, or save its weights as .h5")
    suffix = ".keras" if kind in (Kind.KERAS_3, Kind.TF_KERAS) else ".weights.h5"
    if kind is Kind.HDF5 or (kind is Kind.WEIGHTS and legacy):
        suffix = ".h5"
    with tempfile.TemporaryDirectory(prefix="edgekit-weights-") as folder:
        link = Path(folder, f"named{suffix}")  # both Kerases tell formats by their suffix
        link.symlink_to(path.absolute())
        try:
            model.load_weights(str(link))
        except Exception as problem:  # Keras raises what it likes
            raise ModelError(
                f"{path}: its weights do not fit the architecture '{model.name}': {said(problem)}"
            ) from problem


def is_tf_keras_model(model: object) -> bool:
    """Whether it is a tf_keras.Model, without importing tf_keras."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)


def as_functional(model: Any) -> Any:
    """A Functional view of a Keras 3 model that shares its weights but not its compile state. Raises ModelError."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ModelError(f"model '{model.name}' is not built; give its first layer an Input")
        return keras.Model(model.inputs[0], model.outputs[0], name=_scope_name(model.name))  # it may have no `input`
    if getattr(model, "inputs", None) and getattr(model, "outputs", None):
        return keras.Model(model.input, model.output, name=_scope_name(model.name))
    return _traced(model)


def _traced(model: Any) -> Any:
    """A subclassed model whose `call`, run on symbolic inputs, shows its layers; checked on random inputs."""
    keras, kind = import_keras(), type(model).__name__
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes and model.built:  # by a call that Keras could not follow without numbers
        raise ModelError(
            f"model '{model.name}' is a subclass of keras.Model ({kind}) that cannot be traced into layers: its call "
            f"needs numbers; {POST_TRAINING}"
        )
    if not shapes:
        raise ModelError(
            f"model '{model.name}' is a subclass of keras.Model ({kind}) that was never called: call it once on real "
            "inputs, so that their shapes are known"
        )
    names = [name.removesuffix("_shape") for name in shapes]
    if len(names) == 1:  # whose shape Keras keeps as "input_shape", whatever its name
        names = [next(iter(inspect.signature(model.call).parameters))]
    inputs = {name: _inputs(keras, shape, name) for name, shape in zip(names, shapes.values(), strict=True)}
    try:
        outputs = model.call(**inputs)
        traced = keras.Model(inputs if len(inputs) > 1 else next(iter(inputs.values())), outputs)
    except Exception as problem:  # `call` is the user's code, and may need numbers
        raise ModelError(
            f"model '{model.name}' is a subclass of keras.Model ({kind}) that cannot be traced into layers: "
            f"{said(problem)}; {POST_TRAINING}"
        ) from problem
    _check_equal(keras, model, traced, inputs)
    return keras.Model(traced.input, traced.output, name=_scope_name(model.name))


def _inputs(keras: Any, shape: Any, name: str) -> Any:
    if isinstance(shape, dict):
        return {key: _inputs(keras, item, key) for key, item in shape.items()}
    if isinstance(shape, list):
        return [_inputs(keras, item, f"{name}_{index}") for index, item in enumerate(shape)]
    return keras.Input(tuple(shape[1:]), name=name)


def _check_equal(keras: Any, model: Any, traced: Any, inputs: Any) -> None:
    generator = np.random.default_rng(0)
    arrays = keras.tree.map_structure(
        lambda tensor: generator.uniform(0, 1, (2, *(size or 1 for size in tensor.shape[1:]))).astype(np.float32),
        inputs,
    )
    wanted = keras.tree.flatten(model(**arrays, **_not_training(model)))
    got = keras.tree.flatten(traced(arrays if len(arrays) > 1 else next(iter(arrays.values())), training=False))
    lost = len(wanted) != len(got) or {id(weight) for weight in model.weights} != {id(w) for w in traced.weights}
    for before, after in zip(wanted, got, strict=False):
        scale = max(float(np.abs(np.asarray(before)).max()), 1e-30)
        lost |= float(np.abs(np.asarray(before) - np.asarray(after)).max()) > _TRACED_TOLERANCE * scale
    if lost:
        raise ModelError(
            f"model '{model.name}' is a subclass of keras.Model ({type(model).__name__}) that behaves otherwise when "
            f"traced: it uses weights or Python values outside its layers; {POST_TRAINING}"
        )


def _not_training(model: Any) -> dict[str, bool]:
    return {"training": False} if model._call_has_training_arg else {}


def _scope_name(name: str) -> str:
    """A model's name as TensorFlow takes it for a scope."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
