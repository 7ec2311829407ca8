"""The TensorRT that is installed: one way to speak to `tensorrt` 10.3 and newer and to `tensorrt_rtx`.

What a version has is found out by looking, never by comparing version numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any  # Any: TensorRT's modules and objects, which have no types

from edgekit.errors import BuildError

PROPER, RTX = "tensorrt", "tensorrt_rtx"
PRODUCTS = {PROPER: "TensorRT", RTX: "TensorRT-RTX"}
ERROR_SEVERITIES = ("ERROR", "INTERNAL_ERROR")

_INSTALL = (
    "on a Jetson it comes with JetPack (use the system's Python, or an environment made with --system-site-packages); "
    'for RTX GPUs pip install "edgekit[tensorrt-rtx]"'
)
_NO_GPU = "catchCudaError"  # logged on every machine without a GPU; building ahead of time needs none


def find_package(*, ahead_of_time: bool = False) -> str:
    """The package to build with: `tensorrt` where it is, else `tensorrt_rtx`; ahead of time the other way round.

    Raises BuildError when neither is installed.
    """
    packages = (RTX, PROPER) if ahead_of_time else (PROPER, RTX)
    for package in packages:
        if find_spec(package) is not None:
            return package
    raise BuildError(f"no TensorRT is installed: {_INSTALL}")


def load(package: str) -> Any:
    """Import it. Raises BuildError when it is not there, or its libraries do not load."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as problem:
        raise BuildError(f"{PRODUCTS[package]} cannot be loaded: {problem}") from problem


def is_rtx(trt: Any) -> bool:
    """Whether this is TensorRT-RTX, which alone builds ahead of time for GPUs that need not be here."""
    return hasattr(trt, "ComputeCapability")


def product(trt: Any) -> str:
    """ "TensorRT-RTX 1.7.1"."""
    return f"{PRODUCTS[RTX if is_rtx(trt) else PROPER]} {release(trt.__version__)}"


def release(number: str) -> str:
    """ "1.7.1" of "1.7.1.116"."""
    return ".".join(number.split(".")[:3])


def make_logger(trt: Any) -> Any:
    """A logger that keeps what TensorRT says, which tells almost all of its errors by None or False and a line there.

    `said(*severities)` gives the lines once each, `records` all pairs of severity and text.
    """

    class Recorder(trt.ILogger):  # type: ignore[misc]  # the base is loaded at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.records: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.records.append((severity.name, message))  # an exception here would be swallowed

        def said(self, *severities: str) -> list[str]:
            lines = (" ".join(text.split()) for severity, text in self.records if severity in severities)
            return list(dict.fromkeys(line for line in lines if _NO_GPU not in line))

    return Recorder()


def make_monitor(trt: Any, advance: Callable[[float], object]) -> Any:
    """TensorRT's progress monitor, which calls `advance` with the fraction done, from 0 to 1."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is loaded at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases = Phases()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            advance(self._phases.finish(phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            advance(self._phases.step(phase_name, step))
            return True  # False would cancel the build

    return Monitor()


class Phases:
    """How far nested phases are: a phase is a step of its parent, and the fraction never falls."""

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, inside another or at the top."""
        self._parents[name], self._steps[name], self._done[name] = parent, max(1, steps), 0

    def step(self, name: str, step: int) -> float:
        """Step `step`, counted from 0, is done. The fraction of everything."""
        self._done[name] = max(self._done.get(name, 0), step + 1)
        return self._grown(self._of(name))

    def finish(self, name: str) -> float:
        """A phase is over. The fraction of everything."""
        whole = 1.0 if self._parents.get(name) is None else self._fraction
        return self._grown(whole)

    def _of(self, name: str) -> float:
        fraction = min(1.0, self._done[name] / self._steps.get(name, 1))
        parent = self._parents.get(name)
        while parent in self._steps:
            fraction = min(1.0, (self._done[parent] + fraction) / self._steps[parent])
            parent = self._parents[parent]
        return fraction

    def _grown(self, fraction: float) -> float:
        self._fraction = max(self._fraction, fraction)
        return self._fraction
