"""ONNX Runtime: on CUDA where its package has that, else on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any  # Any: onnxruntime's session, which has no types

import numpy as np

from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.runtime.engines import EngineStatus, check_tensors, installed_version
from edgekit.runtime.onnx_external import check_no_external_data
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array

_GET = 'pip install -U onnxruntime, or pip install "edgekit[onnxruntime]"'
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-jetson", "ort-nightly")
_PLAIN = "CPUExecutionProvider"
_PROVIDERS = {  # in order of preference; others (a cloud service among them) are never chosen
    "CUDAExecutionProvider": "cuda",
    _PLAIN: "cpu",
}
_ERRORS_ONLY = 3
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def find() -> EngineStatus:
    """Whether onnxruntime is installed."""
    found = installed_version("onnxruntime", _DISTRIBUTIONS)
    package, version = found or (None, None)
    return EngineStatus("onnxruntime", package, version, _GET, least_version_applies=True)


def open_model(
    content: bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    threads: int,
    recipe: Recipe | None = None,  # noqa: ARG001  # of TensorRT alone
    accelerator: str | None = None,
    profile: Path | None = None,
) -> OnnxRunner:
    """Open an ONNX file; `accelerator` is "cpu" or "cuda". Raises EngineError.

    With `profile`, ONNX Runtime writes what each operator took to a file whose path begins so.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native
    except ImportError as problem:
        raise EngineError(f"engine 'onnxruntime' cannot be imported ({problem}): {_GET}") from problem
    check_no_external_data(content)
    failures = _failures(native)
    providers = _providers(onnxruntime.get_available_providers(), accelerator)
    strict = providers[0] != _PLAIN  # whether an accelerator takes every operator is asked, and no more than that
    notes: tuple[str, ...] = ()
    try:
        options = _options(onnxruntime, threads, profile, all_or_nothing=strict)
        session = onnxruntime.InferenceSession(content, options, providers=providers[:1])  # the CPU named is a conflict
    except failures as problem:
        if not strict:
            raise EngineError(f"onnxruntime refuses the model: {problem}") from problem
        notes = (f"{providers[0]} does not run the whole model, the rest runs on the CPU: {_line(problem)}",)
        try:
            options = _options(onnxruntime, threads, profile, all_or_nothing=False)
            session = onnxruntime.InferenceSession(content, options, providers=providers)
        except failures as second:
            raise EngineError(f"onnxruntime refuses the model: {second}") from second
    used = session.get_providers()[0]
    if used != providers[0]:
        said = f"{providers[0]} is part of the package and did not take: see what ONNX Runtime logged"
        if accelerator is not None:
            raise EngineError(f"accelerator '{accelerator}' was asked for; {said}")
        notes = (said,)
    return OnnxRunner(session, failures, inputs, outputs, notes=notes)


def _providers(present: Sequence[str], accelerator: str | None) -> list[str]:
    """In order of preference. Raises EngineError where what was asked for is not in the package."""
    known = [name for name in _PROVIDERS if name in present]
    if accelerator is None:
        return known
    asked = [name for name in known if _PROVIDERS[name] == accelerator]
    if not asked:
        here = ", ".join(_PROVIDERS[name] for name in known)
        raise EngineError(f"accelerator '{accelerator}' was asked for, this onnxruntime has {here}")
    return [*asked, *(name for name in known if name == _PLAIN and name not in asked)]


def _options(onnxruntime: Any, threads: int, profile: Path | None, *, all_or_nothing: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was looked into, not guessed
    if all_or_nothing:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split())


def _failures(native: Any) -> tuple[type[Exception], ...]:
    """onnxruntime's exceptions have no base class of their own but Exception."""
    own = [kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)


def _dtype(argument: Any) -> str:
    return _DTYPES.get(argument.type, str(argument.type))


def _shape(argument: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in argument.shape)


class OnnxRunner:
    """One InferenceSession."""

    def __init__(
        self,
        session: Any,
        failures: tuple[type[Exception], ...],
        inputs: Sequence[Binding],
        outputs: Sequence[Binding],
        *,
        notes: tuple[str, ...] = (),
    ) -> None:
        takes = {argument.name: argument for argument in session.get_inputs()}
        gives = {argument.name: argument for argument in session.get_outputs()}
        check_tensors(inputs, {name: _dtype(argument) for name, argument in takes.items()}, "input")
        check_tensors(outputs, {name: _dtype(argument) for name, argument in gives.items()}, "output")
        provider = session.get_providers()[0]
        self.accelerator = f"{_PROVIDERS[provider]} ({provider})"
        self.notes = notes
        self.shapes = tuple(_shape(takes[binding.tensor]) for binding in inputs)
        self.output_shapes = tuple(_shape(gives[binding.tensor]) for binding in outputs)
        self._session: Any = session
        self._failures = failures
        self._inputs = [binding.tensor for binding in inputs]
        self._outputs = [binding.tensor for binding in outputs]
        self._binding: Any = None
        self._bound: list[Array] = []  # the caller's arrays, which outputs are written to

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once. Raises EngineError when onnxruntime fails."""
        try:
            results: list[Array] = self._session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        except self._failures as problem:
            raise EngineError(f"onnxruntime failed while running: {problem}") from problem
        return results

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run once; ONNX Runtime writes the outputs where they belong. Raises EngineError, also on another shape."""
        try:
            if self._binding is None:
                self._binding = self._session.io_binding()
            binding = self._binding
            if len(self._bound) != len(outputs) or any(a is not b for a, b in zip(self._bound, outputs)):  # noqa: B905  # hot
                self._bound = []
                for name, array in zip(self._outputs, outputs, strict=True):
                    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
                self._bound = list(outputs)
            for name, array in zip(self._inputs, arrays):  # noqa: B905  # hot path
                if any(np.may_share_memory(array, output) for output in outputs):
                    raise EngineError(f"input '{name}' shares memory with an array of out: give one of its own")
                binding.bind_cpu_input(name, array if array.flags.c_contiguous else np.ascontiguousarray(array))
            self._session.run_with_iobinding(binding)
        except self._failures as problem:
            self._binding, self._bound = None, []
            raise EngineError(f"onnxruntime failed while running: {problem}") from problem

    def end_profile(self) -> Path:
        """The file that ONNX Runtime wrote its profile to."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Drop the session."""
        self._session = self._binding = None
        self._bound = []
