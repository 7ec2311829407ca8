"""Trials on Ray: its scheduling, its retries when a machine dies, its object store.

A trial is a pure function of a parcel (model, data, settings, all by content) and a job, so Ray may run it again
wherever it likes; what comes back is counted once, under its key, by the one process that asks and tells the study.
"""

from __future__ import annotations

import io
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any  # Any: Ray's references and functions

from edgekit.data import Data
from edgekit.errors import ConfigError, EdgekitError, EngineError
from edgekit.progress import LoggedProgress
from edgekit.project import Project
from edgekit.search.subject import Subject, load_subject, write_columns
from edgekit.search.trials import Job, Made, run_trial
from edgekit.wording import said

OBJECT_STORE_BYTES = 200 * 1024 * 1024  # beside the parcel, of a Ray that a search starts for itself
PROCESSORS = 1  # that Ray counts for a trial
ANSWER_S = 10.0  # until a cluster's port must answer
RETRIES = 5  # after the death of a machine or a process; Ray tries each elsewhere

TRAIN, CALIBRATION, EVALUATION = "train.npz", "calibration.npz", "evaluation.npz"


@dataclass(frozen=True)
class Parcel:
    """A project with all that it reads, for a machine that may share no disk with this one."""

    key: str
    project: Project  # its paths are relative to where the files are unpacked
    files: Mapping[str, bytes]
    modules: str  # the folder of the user's own modules, where the machine has it too


class RayPool:
    """A Ray cluster. Raises EngineError without Ray, ConfigError when there is none at `address`."""

    def __init__(self, subject: Subject, address: str | None) -> None:
        self._subject, self._address = subject, address
        self._ours = False
        self._parcel: Any = None

    def __enter__(self) -> RayPool:
        ray = _ray()
        if self._address:
            _check_there(self._address)
        packed = parcel(self._subject)
        if not ray.is_initialized():
            size = OBJECT_STORE_BYTES + sum(map(len, packed.files.values()))
            own: dict[str, Any] = {"address": self._address} if self._address else {"object_store_memory": size}
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **own)
            except (ConnectionError, RuntimeError, ValueError) as problem:
                raise ConfigError(f"no Ray at {self._address or 'this machine'}: {said(problem)}") from problem
            self._ours = True
        self._parcel = ray.put(packed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parcel = None
        if self._ours:
            _ray().shutdown()

    def run(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Made]]:
        """All at once, as far as the cluster's processors go."""
        ray = _ray()
        trial = ray.remote(num_cpus=PROCESSORS, max_retries=RETRIES, retry_exceptions=False)(_run)
        waiting = {trial.remote(self._parcel, job): key for key, job in jobs.items()}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            key = waiting.pop(done)
            yield key, _result(done)


def _check_there(address: str) -> None:
    """Raise ConfigError where nobody listens: Ray itself would go on asking for five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # "auto": Ray's own file says where
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as problem:
        raise ConfigError(f"no Ray at {address}: {said(problem)}; is it started there?") from problem


def parcel(subject: Subject) -> Parcel:
    """The subject's project and its files. Raises ConfigError for a model that is a folder."""
    project = subject.project
    if not project.model.is_file():
        raise ConfigError(f"{project.model} is a folder: save it as one .keras file for a search on Ray")
    data = replace(project.data, train=TRAIN, calibration=CALIBRATION, evaluation=EVALUATION)
    moved = replace(project, folder=Path(), model=Path(project.model.name), data=data)
    arrays = {TRAIN: subject.train, CALIBRATION: subject.calibration, EVALUATION: subject.evaluation}
    files = {name: _npz(samples) for name, samples in arrays.items()}
    files[project.model.name] = project.model.read_bytes()
    return Parcel(subject.identity, moved, files, str(project.folder.resolve()))


def _run(packed: Parcel, job: Job) -> Made | tuple[type[EdgekitError], str]:
    """One trial in a worker of Ray. An EdgekitError comes back as a value: trying it again would not mend it."""
    try:
        subject = _unpacked(packed)
        with tempfile.TemporaryDirectory(prefix="edgekit-ray-") as work:
            return run_trial(subject, job, Path(work), LoggedProgress())
    except EdgekitError as problem:
        return type(problem), str(problem)


_subjects: dict[str, Subject] = {}


def _unpacked(packed: Parcel) -> Subject:
    """The parcel's subject, loaded once in each process."""
    key = packed.key
    if key not in _subjects:
        folder = Path(tempfile.mkdtemp(prefix="edgekit-parcel-"))
        for name, content in packed.files.items():
            (folder / name).write_bytes(content)
        sys.path.insert(0, packed.modules)
        project = replace(packed.project, folder=folder, model=folder / packed.project.model)
        _subjects[key] = load_subject(project, allow_code=True)  # the search loaded it already
    return _subjects[key]


def _result(reference: Any) -> Made:
    ray = _ray()
    try:
        found = ray.get(reference)
    except ray.exceptions.RayError as problem:
        raise EngineError(
            f"Ray gave a trial up after {RETRIES} retries: {said(problem)}; go on with --resume"
        ) from problem
    if isinstance(found, Made):
        return found
    kind, message = found
    raise kind(message)


def _npz(data: Data) -> bytes:
    buffer = io.BytesIO()
    write_columns(buffer, data)
    return buffer.getvalue()


def _ray() -> Any:
    try:
        import ray
    except ImportError as problem:
        raise EngineError('workers "ray" needs Ray: pip install "edgekit[ray]"') from problem
    return ray
