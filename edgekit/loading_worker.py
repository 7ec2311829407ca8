"""The process in which an untrusted model file is opened first; started by `loading.py`.

It looks into the file, limits its own memory, and only then imports Keras. A Keras 3 `.keras` file is loaded as a
trial. Every other format is read by the Keras that wrote it, bridged, and handed back as a plain `.keras` file.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any  # Any: JSON, protocol buffers and Keras models

from edgekit import workers
from edgekit.bridge.from_tf_keras import Read, read_tf_keras
from edgekit.errors import EdgekitError, ModelError
from edgekit.kerases import import_keras, import_tf_keras
from edgekit.language.registration import register_layers
from edgekit.model_files import BIG, Kind, ModelFile, classes_in, examine, refusal, refuse_code

BASE_BYTES = 6 << 30  # what Keras, TensorFlow and their threads may take
BYTES_PER_BYTE = 8  # of memory for each byte of the file: the weights, their copies and an optimizer's
# TensorFlow operators that touch files or run Python; no Keras model needs them but to restore its weights.
_FORBIDDEN_OPERATORS = ("EagerPyFunc", "MatchingFiles", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile")
_TFMOT = ("Prune", "Cluster", "Quantize")


def main(request: dict[str, Any]) -> dict[str, object]:
    """`path`, `allow_code`, `output` for what has to be bridged, `examine_only`; replies what was found."""
    path = Path(request["path"])
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    limit = BASE_BYTES + BYTES_PER_BYTE * size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    found = examine(path, allow_code=request["allow_code"])
    if found.kind is Kind.PLAIN_SAVED_MODEL or request["examine_only"]:
        return {"kind": found.kind.name, "legacy": found.legacy}
    try:
        return {"kind": found.kind.name, "loss": found.loss, **_load(found, request)}
    except EdgekitError:
        raise
    except Exception as problem:  # Keras raises whatever its layers raise
        if isinstance(problem, MemoryError) or type(problem).__name__ == "ResourceExhaustedError":  # TensorFlow's word
            raise ModelError(
                f"{path}: loading needs more than the {limit:,} bytes of memory that a file of {size:,} gets; {BIG}"
            ) from problem
        raise refusal(problem, found.config, path) from problem


def _load(found: ModelFile, request: dict[str, Any]) -> dict[str, object]:
    allow_code = request["allow_code"]
    if found.kind is Kind.WEIGHTS:
        raise ModelError(
            f"{found.path}: holds weights alone; say what builds the model, with --architecture module:function or "
            "load(path, architecture=...)"
        )
    if not found.legacy and found.kind in (Kind.KERAS_3, Kind.HDF5):
        keras = import_keras()
        register_layers(found.config)
        model = keras.saving.load_model(found.path, compile=False, safe_mode=not allow_code)
        if found.kind is Kind.HDF5:
            model.save(request["output"])
        return {}
    if found.kind is Kind.SAVED_MODEL:
        _check_saved_model(found.path, allow_code)
    read = _read_legacy(found, allow_code)
    read.model.save(request["output"])
    return {"wrapped": read.wrapped, "ranges": read.ranges, "unmapped": read.unmapped}


def _read_legacy(found: ModelFile, allow_code: bool) -> Read:
    models = import_tf_keras().models
    with _tfmot_scope(found):
        if found.kind is Kind.SAVED_MODEL:
            return read_tf_keras(models.load_model(found.path, compile=False))
        return read_tf_keras(models.load_model(found.path, compile=False, safe_mode=not allow_code))


@contextmanager
def _tfmot_scope(found: ModelFile) -> Iterator[None]:
    """TFMOT's classes, where the file names them."""
    names = {name for name, _, _ in classes_in(found.config)}
    if found.kind is not Kind.SAVED_MODEL and not any(name.split(">")[-1].startswith(_TFMOT) for name in names):
        yield
        return
    try:
        import tensorflow_model_optimization as tfmot
    except ImportError as problem:
        if found.kind is Kind.SAVED_MODEL:  # which may do without
            yield
            return
        raise ModelError(
            f'{found.path}: holds TFMOT\'s wrappers, and TFMOT is not installed: pip install "edgekit[tfmot]"'
        ) from problem
    with ExitStack() as scopes:
        scopes.enter_context(tfmot.sparsity.keras.prune_scope())
        scopes.enter_context(tfmot.clustering.keras.cluster_scope())
        scopes.enter_context(tfmot.quantization.keras.quantize_scope())
        yield


def _check_saved_model(path: Path, allow_code: bool) -> None:
    """A SavedModel is a program: refuse layers that carry code and operators that touch files."""
    import json

    from tf_keras.protobuf import saved_metadata_pb2

    metadata = saved_metadata_pb2.SavedMetadata()
    try:
        metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
        layers = [json.loads(node.metadata) for node in metadata.nodes]
    except Exception as problem:  # protobuf's own DecodeError, or bad JSON
        raise ModelError(f"{path}: a damaged SavedModel ({problem}); save it again") from problem
    if not allow_code:
        refuse_code(layers, path)
    refuse_operators(path, allow_code=allow_code)


def refuse_operators(path: Path, *, allow_code: bool) -> None:
    """Raise ModelError when the graph of a SavedModel is damaged, or can touch files or run Python."""
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel()
    try:
        graph.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as problem:  # protobuf's own DecodeError
        raise ModelError(f"{path}: a damaged SavedModel ({problem}); save it again") from problem
    if allow_code:
        return
    for operator in _operators(graph):
        if operator in _FORBIDDEN_OPERATORS:
            raise ModelError(
                f"{path}: its graph has the operator {operator}, which can run code or touch files; "
                "rebuild the model without it, or pass --allow-code if you trust the file"
            )


def _operators(saved_model: Any) -> Iterator[str]:
    for part in saved_model.meta_graphs:
        yield from (node.op for node in part.graph_def.node)
        for function in part.graph_def.library.function:
            yield from (node.op for node in function.node_def)


if __name__ == "__main__":
    workers.serve(main)
