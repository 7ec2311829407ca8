"""One worker of a cluster: runs a whole step, and takes its share of every batch when the step trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any  # Any: JSON

import numpy as np

from edgekit import workers
from edgekit.compression.apply import apply
from edgekit.compression.collectives import join
from edgekit.compression.distributed import MODEL, PROGRESS, RESULT
from edgekit.compression.reporting import FileProgress
from edgekit.compression.steps import parse_step
from edgekit.compression.training import Training, TrainingSettings
from edgekit.data import Data
from edgekit.loading import import_keras, load
from edgekit.progress import LoggedProgress


def work(request: dict[str, Any]) -> dict[str, object]:
    """Run the step; the worker that `writes` leaves the result beside the request's files."""
    team = join()
    folder = Path(request["folder"])
    loss = request["loss"]
    if isinstance(loss, dict):
        loss = import_keras().saving.deserialize_keras_object(loss)
    checkpoints = request["checkpoints"]
    training = Training(
        data=_data(request, folder),
        checkpoints=None if checkpoints is None else Path(checkpoints),
        seed=request["seed"],
        progress=FileProgress(folder / PROGRESS) if request["writes"] else LoggedProgress(),
        settings=replace(TrainingSettings(**request["settings"]), loss=loss),
        team=team,
    )
    step = parse_step(request["step"], where="the worker's request")
    loaded = load(folder / MODEL, allow_code=True, trusted=True)  # our own file: its code was allowed when it came
    import_keras().utils.set_random_seed(training.seed)
    result = apply(step, loaded, training)
    if request["writes"]:
        result.save(folder / RESULT)
    return {}


def _data(request: dict[str, Any], folder: Path) -> Data:
    """The training data, memory-mapped."""
    inputs = {
        name: np.load(folder / f"input-{number}.npy", mmap_mode="r") for number, name in enumerate(request["inputs"])
    }
    labels = folder / "labels.npy"
    return Data(inputs, np.load(labels) if labels.exists() else None, request["where"])


if __name__ == "__main__":
    workers.serve(work)
