"""The process in which a SavedModel that no Keras model stands behind is opened; started by `given.py`."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: JSON and TensorFlow's objects, which have no types

from edgekit import workers
from edgekit.conversion import DYNAMIC_SIGNATURE, FIXED_SIGNATURE
from edgekit.errors import ModelError
from edgekit.files import size_of
from edgekit.loading_worker import BASE_BYTES, BYTES_PER_BYTE, refuse_operators

_DEFAULT = "serving_default"


def main(request: dict[str, Any]) -> dict[str, object]:
    """`path`, `output`, `allow_code`; replies what `save_anew` found."""
    path = Path(request["path"])
    limit = BASE_BYTES + BYTES_PER_BYTE * size_of(path)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return save_anew(path, Path(request["output"]), allow_code=request["allow_code"])


def save_anew(path: Path, output: Path, *, allow_code: bool) -> dict[str, object]:
    """Save a SavedModel with one of its functions at a batch of 1 and at any batch.

    Gives the names, shapes without the batch, and dtypes of `inputs` and `outputs`. Raises ModelError.
    """
    refuse_operators(path, allow_code=allow_code)
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as problem:
        reason = " ".join(str(problem).split())
        raise ModelError(f"{path}: a damaged SavedModel ({reason}); save it again") from problem
    function = _signature(path, dict(model.signatures))
    specs = dict(function.structured_input_signature[1])
    module = tf.Module()
    module.model = model
    module.serve = tf.function(lambda **inputs: function(**inputs))
    signatures = {
        name: module.serve.get_concrete_function(**_with_batch(path, specs, batch))
        for name, batch in ((FIXED_SIGNATURE, 1), (DYNAMIC_SIGNATURE, None))
    }
    tf.saved_model.save(module, str(output), signatures=signatures)
    outputs = signatures[FIXED_SIGNATURE].structured_outputs
    return {"inputs": _described(path, specs), "outputs": _described(path, outputs)}


def _signature(path: Path, signatures: Mapping[str, Any]) -> Any:
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    if _DEFAULT not in signatures:
        names = ", ".join(sorted(signatures)) or "none"
        raise ModelError(
            f"{path}: its signatures are {names}, expected one, or '{_DEFAULT}' among them; save it with one"
        )
    return signatures[_DEFAULT]


def _with_batch(path: Path, specs: Mapping[str, Any], batch: int | None) -> dict[str, Any]:
    import tensorflow as tf

    for name, spec in specs.items():
        if spec.shape.rank is None or spec.shape.rank < 1 or spec.shape[0] is not None or None in spec.shape[1:]:
            raise ModelError(
                f"{path}: input '{name}' has shape {spec.shape}, expected an open batch and nothing else open: "
                "save it with an input signature such as TensorSpec((None, 224, 224, 3))"
            )
    return {name: tf.TensorSpec((batch, *spec.shape[1:]), spec.dtype, name) for name, spec in specs.items()}


def _described(path: Path, specs: Mapping[str, Any]) -> list[tuple[str, list[int], str]]:
    for name, spec in specs.items():
        if spec.shape.rank is None or spec.shape.rank < 1 or None in spec.shape[1:]:
            raise ModelError(f"{path}: output '{name}' has shape {spec.shape}, expected all sizes but the batch's")
    return [(name, [int(size) for size in spec.shape[1:]], spec.dtype.name) for name, spec in specs.items()]


if __name__ == "__main__":
    workers.serve(main)
