"""Run by `edgekit.workers`: a file's inputs resized to another batch, and what it then gives compared with batch 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and the interpreter with its details, which have no types

import numpy as np

from edgekit import workers
from edgekit.tensors import Array
from edgekit_tflite.activations import THREADS

BATCH = 3
# A sample may differ from itself by rounding: kernels add in another order for another batch. A file that mixes the
# samples of a batch differs by about as much as samples do from each other.
_OF_LARGEST = 1e-4
_OF_SPREAD = 0.05


def resize(request: dict[str, Any]) -> dict[str, object]:
    """`path`; replies `batch`, and as `problem` why the file does not take it, or None."""
    return {"batch": BATCH, "problem": _problem(Path(request["path"]))}


def _problem(path: Path) -> str | None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=THREADS)
    feeds = _feeds(interpreter.get_input_details())
    alone = [_run(interpreter, [feed[row : row + 1] for feed in feeds]) for row in range(BATCH)]
    try:
        together = _run(interpreter, feeds)
    except (ValueError, RuntimeError) as problem:
        return " ".join(str(problem).split())
    for detail, got, *rows in zip(interpreter.get_output_details(), together, *alone, strict=True):
        wanted = np.concatenate(rows)
        if got.shape != wanted.shape:
            return f"at a batch of {BATCH}, output '{detail['name']}' has shape {got.shape}, expected {wanted.shape}"
        if not _equal(got, wanted):
            return f"at a batch of {BATCH}, output '{detail['name']}' is not what {BATCH} samples give one by one"
    return None


def _run(interpreter: Any, feeds: Sequence[Array]) -> list[Array]:
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.resize_tensor_input(detail["index"], feed.shape, strict=True)
    interpreter.allocate_tensors()
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], feed)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def _feeds(details: Sequence[Mapping[str, Any]]) -> list[Array]:
    """Samples that differ: of integers that stand for themselves, like tokens, the least that every model takes."""
    generator = np.random.default_rng(0)
    return [_feed(generator, detail) for detail in details]


def _feed(generator: np.random.Generator, detail: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(detail["dtype"]), (BATCH, *detail["shape"].tolist()[1:])
    if dtype.kind == "f":
        return generator.uniform(0, 1, shape).astype(dtype)
    if detail["quantization"][0]:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return generator.integers(0, 2, shape).astype(dtype)


def _equal(got: Array, wanted: Array) -> bool:
    """Both of shape (BATCH, ...); integers may be one step apart."""
    step = 0.0 if got.dtype.kind == "f" else 1.0
    got, wanted = np.nan_to_num(got.astype(np.float64)), np.nan_to_num(wanted.astype(np.float64))
    spread = float(np.max(np.ptp(wanted, axis=0), initial=0.0))
    limit = max(step, _OF_SPREAD * spread, _OF_LARGEST * float(np.max(np.abs(wanted), initial=0.0)))
    return bool(np.all(np.abs(got - wanted) <= limit))


if __name__ == "__main__":
    workers.serve(resize)
