"""ONNX Runtime: on CUDA where its package has that, else on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: onnxruntime's session, which has no types

from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.runtime.engines import EngineStatus, check_tensors, installed_version
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array

_GET = 'pip install -U onnxruntime, or pip install "edgekit[onnxruntime]"'
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-jetson", "ort-nightly")
_PROVIDERS = {  # in order of preference; others (a cloud service among them) are never chosen
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
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
) -> OnnxRunner:
    """Open an ONNX file. Raises EngineError."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native
    except ImportError as problem:
        raise EngineError(f"engine 'onnxruntime' cannot be imported ({problem}): {_GET}") from problem
    failures = _failures(native)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    present = onnxruntime.get_available_providers()
    providers = [provider for provider in _PROVIDERS if provider in present]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except failures as problem:
        raise EngineError(f"onnxruntime refuses the model: {problem}") from problem
    return OnnxRunner(session, failures, inputs, outputs)


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
        self, session: Any, failures: tuple[type[Exception], ...], inputs: Sequence[Binding], outputs: Sequence[Binding]
    ) -> None:
        takes = {argument.name: argument for argument in session.get_inputs()}
        gives = {argument.name: argument for argument in session.get_outputs()}
        check_tensors(inputs, {name: _dtype(argument) for name, argument in takes.items()}, "input")
        check_tensors(outputs, {name: _dtype(argument) for name, argument in gives.items()}, "output")
        provider = session.get_providers()[0]
        self.accelerator = f"{_PROVIDERS[provider]} ({provider})"
        self.shapes = tuple(_shape(takes[binding.tensor]) for binding in inputs)
        self.output_shapes = tuple(_shape(gives[binding.tensor]) for binding in outputs)
        self._session: Any = session
        self._failures = failures
        self._inputs = [binding.tensor for binding in inputs]
        self._outputs = [binding.tensor for binding in outputs]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once. Raises EngineError when onnxruntime fails."""
        try:
            results: list[Array] = self._session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        except self._failures as problem:
            raise EngineError(f"onnxruntime failed while running: {problem}") from problem
        return results

    def close(self) -> None:
        """Drop the session."""
        self._session = None
