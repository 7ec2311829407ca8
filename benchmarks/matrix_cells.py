"""The cells of the compression matrix: one step on one architecture, run in a worker process.

Started by compression_matrix.py; writes one line of JSON to the journal before each cell and one after it.
"""

from __future__ import annotations

import gc
import json
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: Keras objects and JSON

import numpy as np

from benchmarks import zoo
from edgekit import workers
from edgekit.compression import TrainingSettings, compress
from edgekit.compression.kernels import kernels
from edgekit.compression.steps import (
    Cluster,
    Distill,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    Step,
)
from edgekit.errors import EdgekitError
from edgekit.loading import LoadedModel, load

BYTES = 14 << 30  # of address space, which TensorFlow takes more of than it uses

# Column -> the step. Each trains for one step: two samples in one batch.
STEPS: Mapping[str, Callable[[], Step]] = {
    "prune": lambda: Prune(0.5, epochs=1, batch_size=2),
    "prune 2:4": lambda: Prune(pattern="2:4", epochs=1, batch_size=2),
    "prune-channels": lambda: PruneChannels(0.25, epochs=1, batch_size=2),
    "cluster": lambda: Cluster(16, epochs=1, batch_size=2),
    "factorize": lambda: Factorize(energy=0.7, epochs=1, batch_size=2),
    "distill": lambda: Distill(width=0.5, epochs=1, batch_size=2, objective="logits-mse", weight=1.0),
    "quantize-aware": lambda: QuantizeAware(epochs=1, batch_size=2),
    "quantize-aware 4-bit": lambda: QuantizeAware(epochs=1, bits=4, batch_size=2),
    "quantize-weights": lambda: QuantizeWeights("logarithmic", bits=4, epochs=1, batch_size=2),
    "tfmot prune": lambda: Prune(0.5, epochs=1, batch_size=2, engine="tfmot"),
    "tfmot cluster": lambda: Cluster(16, epochs=1, batch_size=2, engine="tfmot"),
    "tfmot quantize-aware": lambda: QuantizeAware(epochs=1, batch_size=2, engine="tfmot"),
}
BARE = ("bare prune", "bare cluster", "bare quantize-aware")  # TFMOT called plainly on the bridged model


def main(request: dict[str, Any]) -> dict[str, object]:
    """Run the columns of one architecture one after the other, each ended by the alarm when it takes too long."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    for column in request["columns"]:
        cell = {"architecture": request["architecture"], "column": column}
        _note(request["journal"], {**cell, "outcome": "started", "text": ""})
        outcome, text = run_cell(request["architecture"], column, request["limit_s"])
        _note(request["journal"], {**cell, "outcome": outcome, "text": text})
    return {}


def run_cell(architecture: str, column: str, limit_s: int) -> tuple[str, str]:
    """("ran", what it did), ("refused", the sentence), or ("failed", what broke)."""
    run = run_bare if column in BARE else run_step
    try:
        with _time_limit(limit_s):
            return "ran", run(zoo.build(architecture), column)
    except EdgekitError as problem:
        return "refused", str(problem)
    except TimeoutError:
        return "failed", f"not done after {limit_s} s"
    except Exception as problem:  # whatever breaks is what the matrix is to show
        return ("refused" if column in BARE else "failed"), one_line(problem)
    finally:
        gc.collect()


def run_step(model: Any, column: str) -> str:
    """Apply the column's step to the model; what came of it."""
    loaded = load(model)
    settings = TrainingSettings(loss="original-outputs")
    result = compress(loaded, STEPS[column](), data=zoo.inputs(model, 2), training=settings)
    outputs = result.predict(zoo.inputs(model, 2, seed=1))
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise ArithmeticError("the result's outputs are not finite")
    return gist(loaded, result, column)


def gist(before: LoadedModel, after: LoadedModel, column: str) -> str:
    """What a step gained, and how many layers and kernels it noted as left as they were, or in float."""
    left = {note.layer for note in after.notes[len(before.notes) :] if note.layer}
    text = _gain(before, after, column)
    word = "in float" if "quantize-aware" in column else "left"
    return f"{text}, {len(left)} {word}" if left else text


def _gain(before: LoadedModel, after: LoadedModel, column: str) -> str:
    if column == "quantize-weights":
        found = [max(len(np.unique(channel)) for channel in kernel.read().T) for kernel in kernels(after.model)]
        return f"{sum(count <= 16 for count in found)} of {len(found)} kernels rounded"
    if column.endswith("cluster"):
        found = [len(np.unique(kernel.read())) for kernel in kernels(after.model)]
        return f"{sum(count <= 16 for count in found)} of {len(found)} kernels share values"
    if "quantize-aware" in column:
        return f"{len(after.activation_ranges or {})} ranges"
    if column in ("prune", "prune 2:4", "tfmot prune"):
        return f"{after.sparsity:.0%} zero"
    return f"{_short(before.parameters)} → {_short(after.parameters)}"


def run_bare(model: Any, column: str) -> str:
    """Call TFMOT as its guide says, on the whole bridged model, and train it for one step."""
    import tensorflow_model_optimization as tfmot

    from edgekit.bridge import to_tf_keras

    columns = list(zoo.inputs(model, 2).values())
    legacy = to_tf_keras(load(model))
    targets = [np.zeros((2, *tensor.shape[1:]), np.float32) for tensor in legacy.outputs]
    if column == "bare prune":
        wrapped = tfmot.sparsity.keras.prune_low_magnitude(legacy)
    elif column == "bare cluster":
        start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
        wrapped = tfmot.clustering.keras.cluster_weights(legacy, number_of_clusters=16, cluster_centroids_init=start)
    else:
        wrapped = tfmot.quantization.keras.quantize_model(legacy)
    wrapped.compile("sgd", "mse")
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if column == "bare prune" else []
    wrapped.fit(columns, targets, batch_size=2, epochs=1, verbose=0, callbacks=callbacks)
    return "ran"


def one_line(problem: Exception) -> str:
    """The type and the telling line of an exception; TensorFlow and Keras put theirs last."""
    lines = [line.strip() for line in str(problem).partition("Call arguments received")[0].splitlines()]
    told = [line for line in lines if line] or [""]
    text = told[-1] if told[0].startswith(("in user code", "Exception encountered")) else told[0]
    return f"{type(problem).__name__}: {text}"[:300]


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _note(journal: str, line: Mapping[str, object]) -> None:
    with Path(journal).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def expired(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    workers.serve(main)
