"""What a layer was made with, as keyword arguments of its twin in the other Keras."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any  # Any: layers and settings of both Kerases

import numpy as np

from edgekit.errors import ModelError

# Keras 3's name -> tf_keras's.
RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}

# Settings that change no output: how a layer is computed or seeded, and what get_config() says of a built layer.
_WITHOUT_EFFECT = {
    "autocast", "batch_input_shape", "batch_shape", "build_config", "data_format", "dtype", "flash_attention", "fused",
    "implementation", "input_dtype", "input_length", "key_shape", "query_shape", "quantization_config", "rng_type",
    "seed", "softmax_robust_masking", "unroll", "use_cudnn", "value_shape", "virtual_batch_size",
    "zero_output_for_mask",
}  # fmt: skip


def twin_class(layer: Any, source: str, target: Any, target_name: str) -> type[Any] | None:
    """The class of the same name in the other Keras; None when the layer is not Keras's own or has no twin."""
    module, kind = type(layer).__module__, type(layer).__name__
    if not module.startswith(f"{source}."):
        return None
    twin: type[Any] | None = getattr(target.layers, kind, None)
    if twin is None and ".applications." in module:  # ConvNeXt's layers live beside the network
        place = importlib.import_module(target_name + module.removeprefix(source))
        twin = getattr(place, kind, None)
    return twin


def translate(
    layer: Any,
    twin: type[Any],
    target: Any,
    *,
    without: Iterable[str],
    renamed: dict[str, str],
    activation: Callable[[str], Any],
) -> dict[str, Any]:
    """Keyword arguments for `twin` out of the layer's config.

    `activation` gives the other Keras's activation for the name of a setting. Initializers are left out, for the
    weights are copied. Raises ModelError that names a setting which the twin does not have.
    """
    accepted, own = parameters(twin), parameters(type(layer))
    made: dict[str, Any] = {"dtype": _policy(layer)}
    for key, value in layer.get_config().items():
        wanted = renamed.get(key, key)
        if key == "dtype" or key in without or key.endswith("_initializer") or value is None:
            continue
        if wanted not in accepted:
            _check_without_effect(layer, key, value, own)
        elif key.endswith("activation"):
            made[wanted] = activation(key)
        elif key.endswith(("_regularizer", "_constraint")):
            made[wanted] = _object(layer, key, value, target)
        elif key not in ("quantization_config", "batch_input_shape"):
            made[wanted] = plain(value)
    return made


def parameters(kind: type[Any]) -> dict[str, Any]:
    """Keyword arguments of a layer class with their defaults, those that it hands on to its bases included."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            given = inspect.signature(vars(base)["__init__"]).parameters
            found = {name: parameter.default for name, parameter in given.items()} | found
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in given.values()):
                return found
    return found | {"name": None, "trainable": True, "dtype": None}


def plain(value: Any) -> Any:
    """TensorFlow's tracked lists and shapes as lists and tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _check_without_effect(layer: Any, key: str, value: Any, own: dict[str, Any]) -> None:
    default: Any = own.get(key)
    same = key in own and isinstance(value, type(default)) and np.array_equal(plain(value), default)
    if not same and value is not False and key not in _WITHOUT_EFFECT:
        raise ModelError(
            f"layer '{layer.name}' ({type(layer).__name__}): setting {key}={value!r} has no counterpart in the other "
            "Keras; rebuild the layer without it, or teach the bridge with edgekit.bridge.teach"
        )


def _policy(layer: Any) -> str:
    name = str(layer.dtype_policy.name)
    if "_from_" in name:
        raise ModelError(
            f"layer '{layer.name}' ({type(layer).__name__}) was quantized by Keras's own quantize() ({name}); "
            "bring the float model and let edgekit quantize it"
        )
    return name


def _object(layer: Any, key: str, value: dict[str, Any], target: Any) -> Any:
    """A regularizer or constraint of the other Keras."""
    module = target.regularizers if key.endswith("_regularizer") else target.constraints
    kind = getattr(module, str(value.get("class_name")), None)
    if kind is None:
        raise ModelError(
            f"layer '{layer.name}' ({type(layer).__name__}): its {key} {value.get('class_name')} is not one of Keras's "
            "own; rebuild the layer without it"
        )
    return kind(**{name: plain(item) for name, item in value["config"].items()})
