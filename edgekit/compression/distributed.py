"""Steps that train on several devices: all GPUs of this process, or several processes as one cluster."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any  # Any: JSON, and a loss, which may be a keras object

import numpy as np

from edgekit import workers
from edgekit.compression.collectives import ENVIRONMENT
from edgekit.compression.copying import copied
from edgekit.compression.reporting import Reports
from edgekit.compression.steps import Distill, Step, step_name, step_table
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import ConfigError, ModelError
from edgekit.loading import LoadedModel, import_keras, load
from edgekit.progress import Progress

WORKER = "edgekit.compression.team_worker"
MODEL, STUDENT, RESULT, PROGRESS = "model.keras", "student.keras", "result.keras", "progress.jsonl"
_TIMEOUT_S = 7 * 24 * 3600.0  # a step that takes longer goes on from its checkpoints
_POLL_S = 0.2

Apply = Callable[[Step, LoadedModel, Training], LoadedModel]


def apply_with_engine(apply: Apply, step: Step, loaded: LoadedModel, training: Training) -> LoadedModel:
    """Apply a step with the engine that the settings name. Raises ConfigError when it cannot be used here."""
    engine = training.settings.engine
    if engine == "keras" or step.epochs == 0:
        return apply(step, loaded, training)
    if getattr(step, "engine", "keras") == "tfmot":
        raise ConfigError(
            f"step '{step_name(step)}' has engine = \"tfmot\", which cannot train {engine}; leave one out"
        )
    if engine == "mirrored":
        return _mirrored(apply, step, loaded, training)
    return _in_workers(step, loaded, training)


def _mirrored(apply: Apply, step: Step, loaded: LoadedModel, training: Training) -> LoadedModel:
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy()
    if strategy.num_replicas_in_sync < 2:
        raise ConfigError('engine = "mirrored" needs two GPUs or more, and TensorFlow sees one device; leave it out')
    with strategy.scope():
        result = apply(step, loaded, training)
    return replace(result, model=copied(result.model))  # ordinary variables again


def _in_workers(step: Step, loaded: LoadedModel, training: Training) -> LoadedModel:
    """Each worker runs the whole step on its share of every batch; the results are equal, and one is read back."""
    clusters = _clusters(training.settings.workers)
    with tempfile.TemporaryDirectory(prefix="edgekit-cluster-") as name:
        folder = Path(name)
        request = _request(folder, step, loaded, training)
        with ThreadPoolExecutor(len(clusters)) as pool:
            running = [
                pool.submit(_call, {**request, "writes": position == 0}, cluster, step)
                for position, cluster in enumerate(clusters)
            ]
            try:
                _watch(running, folder / PROGRESS, training.progress)
            finally:
                workers.stop_all()  # one that waits for one that failed would wait long
        return load(folder / RESULT, allow_code=True, trusted=True)  # our own file


def _watch(running: list[Future[None]], reports: Path, progress: Progress) -> None:
    """Show the progress until all workers are done. Raises what the first one that fails raised."""
    pending = set(running)
    with Reports(reports, progress) as shown:
        while pending:
            done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            shown.update()


def _call(request: Mapping[str, object], cluster: str, step: Step) -> None:
    what = f"step '{step_name(step)}' on worker {json.loads(cluster)['task']['index']}"
    workers.call(
        WORKER, request, timeout_s=_TIMEOUT_S, what=what, error=ModelError,
        environment={ENVIRONMENT: cluster, "PYTHONPATH": os.pathsep.join(sys.path), **_own_gpu(cluster)},
    )  # fmt: skip


def _clusters(count: int) -> list[str]:
    """TF_CONFIG of each worker that this process starts: the user's own, or `count` workers on loopback."""
    given = os.environ.get(ENVIRONMENT)
    if given is not None:
        return [_checked(given)]
    if count < 2:
        raise ConfigError(
            f'engine = "multi-worker" needs workers = 2 or more, or {ENVIRONMENT} in the environment of each machine'
        )
    hosts = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    return [_config(hosts, index) for index in range(count)]


def _config(hosts: list[str], index: int) -> str:
    return json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})


def _checked(given: str) -> str:
    try:
        config = json.loads(given)
        hosts, index = config["cluster"]["worker"], config["task"]["index"]
    except (ValueError, KeyError, TypeError) as problem:
        example = _config(["10.0.0.1:2222", "10.0.0.2:2222"], 0)
        raise ConfigError(f"{ENVIRONMENT} cannot be read ({problem!r}); expected, for example, {example}") from problem
    if len(hosts) < 2 or not 0 <= int(index) < len(hosts):
        raise ConfigError(f"{ENVIRONMENT} names {len(hosts)} workers and task {index}; expected 2 or more, one of them")
    return given


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _own_gpu(cluster: str) -> dict[str, str]:
    """One GPU for each worker on loopback, as far as there are any."""
    import tensorflow as tf

    config = json.loads(cluster)
    gpus = len(tf.config.list_physical_devices("GPU"))
    local = all(host.startswith("127.") for host in config["cluster"]["worker"])
    return {"CUDA_VISIBLE_DEVICES": str(config["task"]["index"] % gpus)} if gpus and local else {}


def _request(folder: Path, step: Step, loaded: LoadedModel, training: Training) -> dict[str, object]:
    """What a worker needs, as files and JSON."""
    loaded.save(folder / MODEL)
    table = step_table(step)
    if isinstance(step, Distill) and step.student is not None:
        load(step.student).save(folder / STUDENT)
        table["student"] = str(folder / STUDENT)
    data = training.need_data()
    for name, array in columns(data).items():
        np.save(folder / name, array)
    settings = replace(training.settings, loss=None, engine="keras", workers=1)
    return {
        "folder": str(folder),
        "step": json.loads(json.dumps(table, default=str)),
        "inputs": list(data.inputs),
        "where": data.where,
        "settings": asdict(settings),
        "loss": _portable(training.settings.loss if training.settings.loss is not None else loaded.compiled_loss),
        "checkpoints": None if training.checkpoints is None else str(training.checkpoints.resolve()),
        "seed": training.seed,
    }


def columns(data: Data) -> dict[str, Any]:
    """File name -> array, for the data's inputs in their order, and its labels."""
    inputs = {f"input-{number}.npy": array for number, array in enumerate(data.inputs.values())}
    return inputs if data.labels is None else {**inputs, "labels.npy": data.labels}


def _portable(loss: Any) -> object:
    """The loss as JSON. Raises ConfigError for one that another process could not make again."""
    if loss is None or isinstance(loss, str):
        return loss
    if type(loss).__module__.startswith("keras.") or getattr(loss, "__module__", "").startswith("keras."):
        return import_keras().saving.serialize_keras_object(loss)
    raise ConfigError(
        f'engine = "multi-worker" sends the loss to other processes, and {loss!r} cannot be sent; '
        "give its name or module:function in the training settings"
    )
