"""The process in which a SavedModel that no Keras model stands behind is opened; started by `given.py`."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: JSON and TensorFlow's objects, which have no types

from edgekit import workers
from edgekit.conversion import DYNAMIC_SIGNATURE
from edgekit.errors import ModelError, did_you_mean
from edgekit.files import size_of
from edgekit.loading_worker import BASE_BYTES, BYTES_PER_BYTE, refuse_operators

_DEFAULT = "serving_default"


def main(request: dict[str, Any]) -> dict[str, object]:
    """`path`, `output`, `allow_code`, `signatures`; replies what `save_anew` found."""
    path = Path(request["path"])
    limit = BASE_BYTES + BYTES_PER_BYTE * size_of(path)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return save_anew(path, Path(request["output"]), allow_code=request["allow_code"], signatures=request["signatures"])


def save_anew(path: Path, output: Path, *, allow_code: bool, signatures: Sequence[str] = ()) -> dict[str, object]:
    """Save a SavedModel with the chosen of its functions at a batch of 1, and the first of them at any batch, too.

    Without a choice, it is the only one, or "serving_default". Gives the names, shapes without the batch, and dtypes of
    `inputs` and `outputs` of the first, and the `signatures`. Raises ModelError.
    """
    refuse_operators(path, allow_code=allow_code)
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as problem:
        reason = " ".join(str(problem).split())
        raise ModelError(f"{path}: a damaged SavedModel ({reason}); save it again") from problem
    chosen = _chosen(path, dict(model.signatures), signatures)
    traced = {name: _traced(path, function, 1) for name, function in chosen.items()}
    first = next(iter(chosen))
    module = tf.Module()
    module.model = model
    dynamic = {DYNAMIC_SIGNATURE: _traced(path, chosen[first], None)}
    tf.saved_model.save(module, str(output), signatures=traced | dynamic)
    return {
        "inputs": _described(path, dict(chosen[first].structured_input_signature[1])),
        "outputs": _described(path, traced[first].structured_outputs),
        "signatures": list(chosen),
    }


def _chosen(path: Path, found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The functions of these names, in that order."""
    known = ", ".join(sorted(found)) or "none"
    if not names:
        if len(found) != 1 and _DEFAULT not in found:
            raise ModelError(
                f"{path}: its signatures are {known}, and none is called '{_DEFAULT}': choose with --signature NAME"
            )
        names = list(found) if len(found) == 1 else [_DEFAULT]
    for name in names:
        if name not in found:
            raise ModelError(f"{path} has no signature '{name}'{did_you_mean(name, found)}")
        if names.count(name) > 1:
            raise ModelError(f"{path}: the signature '{name}' is given twice")
        if name == DYNAMIC_SIGNATURE:
            raise ModelError(f"{path}: the signature '{name}' has a name that edgekit needs: save it under another")
    return {name: found[name] for name in names}


def _traced(path: Path, function: Any, batch: int | None) -> Any:
    import tensorflow as tf

    specs = _with_batch(path, dict(function.structured_input_signature[1]), batch)
    return tf.function(lambda **inputs: function(**inputs)).get_concrete_function(**specs)


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
