"""Opening a model file that nobody vouches for: in a process of its own, under a time limit and a memory limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit import workers
from edgekit.errors import ModelError
from edgekit.kerases import import_keras
from edgekit.model_files import Kind, classes_in, examine
from edgekit.wording import counted

WORKER = "edgekit.loading_worker"
TIMEOUT_S = 600.0
# TFMOT asks for tf_keras before tensorflow is imported; Keras 3 does not mind.
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
TRY_FIRST = True  # whether a Keras 3 file is opened in a process of its own before this one opens it


@dataclass(frozen=True)
class Opened:
    """A file that Keras 3 may load in this process: the one that was given, or what it was bridged into."""

    path: Path
    loss: Any = None  # serialized
    wrapped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] | None = None
    unmapped: str = ""


def open_file(path: Path, output: Path, *, allow_code: bool, trusted: bool) -> Opened:
    """Make sure that a file is harmless; `output` is where a bridged copy goes. Raises ModelError."""
    if not path.exists():
        raise ModelError(f"no model file {path}")
    if trusted or not TRY_FIRST or _registered_classes():
        found = examine(path, allow_code=allow_code)
        own = any(_is_registered(name) for name, _, _ in classes_in(found.config))
        if found.kind is Kind.KERAS_3 and (trusted or not TRY_FIRST or own):  # a worker would not know those classes
            return Opened(path, found.loss)
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(_ask, path, allow_code=allow_code, output=output)
        import_keras()  # which takes as long as the worker does
        reply = trial.result()
    kind = Kind[reply["kind"]]
    if kind is Kind.PLAIN_SAVED_MODEL:
        raise ModelError(
            f"{path}: a SavedModel without a Keras model: it cannot be compressed, only converted (edgekit convert); "
            "bring the Keras model that it was exported from"
        )
    if kind is Kind.KERAS_3:
        return Opened(path, reply["loss"])
    ranges = {name: (low, high) for name, (low, high) in (reply.get("ranges") or {}).items()}
    wrapped = {name: tuple(layers) for name, layers in reply.get("wrapped", {}).items()}
    return Opened(output, reply["loss"], wrapped, ranges or None, reply.get("unmapped", ""))


def examine_apart(path: Path) -> tuple[Kind, bool]:
    """(what the file is, whether a Keras before 3 wrote it), looked at in a process of its own. Raises ModelError."""
    reply = _ask(path, allow_code=True, examine_only=True)  # no more than weights will be read
    return Kind[reply["kind"]], bool(reply["legacy"])


def wrapper_notes(wrapped: Mapping[str, tuple[str, ...]], unmapped: str) -> Iterator[str]:
    """What was done with TFMOT's wrappers, for the user."""
    for kind, layers in wrapped.items():
        said = f"TFMOT's {kind} wrappers were taken off {counted(len(layers), 'layer')}"
        if kind == "quantize" and unmapped:
            said += f"; their ranges were left out, because {unmapped}: QuantizeAware finds new ones"
        elif kind == "quantize":
            said += "; their trained ranges are kept, and kernels lie on the trained grids"
        yield said


def _ask(path: Path, *, allow_code: bool, output: Path | None = None, examine_only: bool = False) -> dict[str, Any]:
    request = {
        "path": str(path), "allow_code": allow_code, "output": output and str(output),
        "examine_only": examine_only,
    }  # fmt: skip
    return workers.call(
        WORKER, request, timeout_s=TIMEOUT_S, what=f"opening {path}", error=ModelError, environment=ENVIRONMENT
    )


def _registered_classes() -> bool:
    """Whether the user registered classes of their own with Keras."""
    return "keras" in sys.modules and bool(import_keras().saving.get_custom_objects())


def _is_registered(class_name: str) -> bool:
    names = (name.split(">")[-1] for name in import_keras().saving.get_custom_objects())
    return class_name.split(">")[-1] in names
