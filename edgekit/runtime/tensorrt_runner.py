"""A TensorRT engine that runs: one stream, pinned buffers that are kept, and a CUDA graph where the engine allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any  # Any: TensorRT's objects, which have no types

import numpy as np

from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.runtime.cuda import CudaApi
from edgekit.runtime.cuda_graphs import Repeated
from edgekit.runtime.cuda_memory import Buffer, DeviceArray
from edgekit.runtime.engines import check_tensors
from edgekit.runtime.stages import StageTimes
from edgekit.runtime.tensorrt_profiling import Layer, layer_times
from edgekit.tensorrt.bindings import ERROR_SEVERITIES, make_logger
from edgekit.tensors import Array

Shapes = tuple[tuple[int, ...], ...]

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_OPEN = -1  # a size that the engine leaves open


@dataclass
class LoadedEngine:
    """A deserialized engine and what must live as long as it."""

    trt: Any
    logger: Any
    runtime: Any
    engine: Any

    def errors(self) -> str:
        """What TensorRT logged as errors, in one line."""
        return "; ".join(self.logger.said(*ERROR_SEVERITIES)) or "TensorRT gave no reason"


def deserialize(trt: Any, plan: bytes, *, host_code: bool) -> LoadedEngine | str:
    """The engine, or in words why TensorRT does not take it.

    `host_code` allows the code of the host that a version-compatible engine carries; only for one built here. The
    driver must have shown a GPU before.
    """
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    loaded = LoadedEngine(trt, logger, runtime, runtime.deserialize_cuda_engine(plan))
    return loaded.errors() if loaded.engine is None else loaded


class TensorRTRunner:
    """One execution context. Not thread-safe: the session takes turns. It owns `cuda` from its making on."""

    def __init__(
        self, cuda: CudaApi, loaded: LoadedEngine, inputs: Sequence[Binding], outputs: Sequence[Binding], gpu: str
    ) -> None:
        engine = loaded.engine
        _check(loaded, inputs, outputs)
        self.accelerator = f"cuda ({gpu})"
        self.notes: tuple[str, ...] = ()
        self.shapes = tuple(_open_shape(engine.get_tensor_shape(binding.tensor)) for binding in inputs)
        self._cuda = cuda
        self._loaded: LoadedEngine | None = loaded
        self._inputs = [(binding.tensor, binding.dtype) for binding in inputs]
        self._outputs = [(binding.tensor, binding.dtype) for binding in outputs]
        self._events: tuple[int, ...] = ()
        self._shapes: Shapes | None = None  # that everything is prepared for
        self._addresses: dict[str, int] = {}
        self._views: dict[str, Array] = {}  # of pinned memory
        self._results: list[Array] = []
        with ExitStack() as stack:
            self._stream = cuda.create_stream()
            stack.callback(cuda.destroy_stream, self._stream)
            self._buffers = {name: Buffer(cuda) for name, _ in (*self._inputs, *self._outputs)}
            for buffer in self._buffers.values():
                stack.callback(buffer.close)
            self._context: Any = engine.create_execution_context()
            if self._context is None:
                raise EngineError(f"TensorRT makes no execution context: {loaded.errors()}")
            self._work = Repeated(cuda, self._stream, self._enqueue)
            stack.callback(self._let_go)
            self._resources = stack.pop_all()
        self._resources.callback(self._work.reset)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Copy in, run, copy out; a DeviceArray is read where it is. Raises EngineError."""
        self._run(arrays)
        return [view.copy() for view in self._results]

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """`run`, straight from pinned memory into these arrays. Raises EngineError, also on another shape."""
        self._run(arrays)
        for (name, _), view, output in zip(self._outputs, self._results, outputs, strict=True):
            if view.shape != output.shape:
                raise EngineError(f"output '{name}' has shape {view.shape}, out has {output.shape}")
            output[...] = view

    def _run(self, arrays: Sequence[Array]) -> None:
        self._cuda.enter()
        try:
            uploads = self._prepare(arrays)
            self._upload(uploads)
            self._work.run()
            self._download()
            self._cuda.synchronize(self._stream)
        except BaseException:
            self._forget()
            raise

    def timed_run(self, arrays: Sequence[Array]) -> StageTimes:
        """`run` with an event of CUDA between its stages; the outputs are dropped. Raises EngineError."""
        self._cuda.enter()
        try:
            times = self._timed(self._prepare(arrays))
        except BaseException:
            self._forget()
            raise
        return times

    def layer_times(self, arrays: Sequence[Array], *, runs: int) -> list[list[Layer]]:
        """Each layer's name and milliseconds, for each of `runs`, in the engine's first profile. Raises EngineError."""
        self._cuda.enter()
        loaded = self._loaded
        if loaded is None:
            raise EngineError("the engine is closed; open it again")
        try:
            self._upload(self._prepare(arrays))
            shapes = {name: array.shape for (name, _), array in zip(self._inputs, arrays, strict=True)}
            return layer_times(
                loaded.trt, loaded.engine, shapes, self._addresses, stream=self._stream,
                synchronize=self._cuda.synchronize, runs=runs,
            )  # fmt: skip
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        """Free everything; what is left is freed even when CUDA fails at a part of it. A second close is harmless."""
        with ExitStack() as stack:
            opened = self._loaded is not None
            if opened:
                stack.callback(self._cuda.close)
            stack.push(self._resources.pop_all())
            if opened:
                self._cuda.enter()  # this may be another thread than the one that opened it

    def _let_go(self) -> None:
        """The context before the engine, and that before its runtime, as TensorRT wants it."""
        self._context = None
        if self._loaded is not None:
            self._loaded.engine = None
        self._loaded = None

    def _timed(self, uploads: Sequence[str]) -> StageTimes:
        self._make_events()
        start, uploaded, computed, downloaded = self._events
        self._cuda.record(start, self._stream)
        self._upload(uploads)
        self._cuda.record(uploaded, self._stream)
        before_ns = perf_counter_ns()
        self._work.run()
        enqueue_ms = (perf_counter_ns() - before_ns) / 1e6
        self._cuda.record(computed, self._stream)
        self._download()
        self._cuda.record(downloaded, self._stream)
        self._cuda.synchronize(self._stream)
        elapsed = self._cuda.elapsed_ms
        return StageTimes(
            h2d_ms=elapsed(start, uploaded),
            compute_ms=elapsed(uploaded, computed),
            d2h_ms=elapsed(computed, downloaded),
            enqueue_ms=enqueue_ms,
            cuda_graph=self._work.captured,
        )

    def _make_events(self) -> None:
        while len(self._events) < 4:
            event = self._cuda.create_event()
            self._resources.callback(self._cuda.destroy_event, event)
            self._events += (event,)

    def _prepare(self, arrays: Sequence[Array | DeviceArray]) -> list[str]:
        """Shapes, addresses, and pinned memory filled; the names of the inputs to be copied from there.

        Whatever changes a shape or an address makes the graph anew.
        """
        shapes = tuple(array.shape for array in arrays)
        if shapes != self._shapes:
            self._reshape(shapes)
        uploads = []
        for (name, dtype), array in zip(self._inputs, arrays, strict=True):
            if isinstance(array, DeviceArray):
                if array.stream is not None:
                    self._cuda.synchronize(array.stream)
                self._point(name, array.pointer)
            else:
                self._hold(name, dtype, array.shape, array.nbytes)
                self._views[name][...] = array
                uploads.append(name)
        return uploads

    def _reshape(self, shapes: Shapes) -> None:
        self._forget()
        self._work.reset()
        self._choose_profile(shapes)
        context = self._context
        for (name, _), shape in zip(self._inputs, shapes, strict=True):
            if not context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT does not take '{name}' of shape {shape}: {self._said()}")
        self._infer()
        for name, dtype in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            if _OPEN in shape:
                raise EngineError(f"the shape of output '{name}' depends on values, which edgekit does not run")
            self._hold(name, dtype, shape, math.prod(shape) * np.dtype(dtype).itemsize)
            self._results.append(self._views[name])
        self._shapes = shapes

    def _infer(self) -> None:
        try:
            unknown = self._context.infer_shapes()
        except RuntimeError as problem:
            raise EngineError(f"TensorRT cannot tell the outputs' shapes: {problem}") from problem
        if unknown:
            raise EngineError(f"TensorRT cannot tell the shapes of {', '.join(unknown)}: {self._said()}")

    def _hold(self, name: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
        """A tensor in memory of our own."""
        buffer = self._buffers[name]
        buffer.reserve(max(size, 1))
        if self._addresses.get(name) != buffer.device or name not in self._views:
            self._views[name] = buffer.view(shape, dtype)
        self._point(name, buffer.device)

    def _point(self, name: str, address: int) -> None:
        if self._addresses.get(name) == address:
            return
        self._work.reset()
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT does not take an address for '{name}': {self._said()}")
        self._addresses[name] = address

    def _choose_profile(self, shapes: Shapes) -> None:
        """The first profile that all inputs fit."""
        engine, names = self._engine(), [name for name, _ in self._inputs]
        count = engine.num_optimization_profiles
        for index in range(count):
            if all(_fits(engine, name, index, shape) for name, shape in zip(names, shapes, strict=True)):
                break
        else:
            raise EngineError(_no_profile(engine, names, shapes))
        if count > 1 and not self._context.set_optimization_profile_async(index, self._stream):
            raise EngineError(f"TensorRT does not take profile {index}: {self._said()}")

    def _upload(self, names: Sequence[str]) -> None:
        for name in names:
            buffer = self._buffers[name]
            self._cuda.copy_to_device(buffer.device, buffer.pinned, self._views[name].nbytes, self._stream)

    def _download(self) -> None:
        for (name, _), view in zip(self._outputs, self._results, strict=True):
            buffer = self._buffers[name]
            self._cuda.copy_to_host(buffer.pinned, buffer.device, view.nbytes, self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"TensorRT failed while running: {self._said()}")

    def _forget(self) -> None:
        """Prepare everything anew at the next run."""
        self._shapes = None
        self._addresses, self._views, self._results = {}, {}, []

    def _engine(self) -> Any:
        if self._loaded is None:
            raise EngineError("the engine is closed; open it again")
        return self._loaded.engine

    def _said(self) -> str:
        return "" if self._loaded is None else self._loaded.errors()


def _check(loaded: LoadedEngine, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> None:
    """Raise EngineError unless the engine's tensors are those of the manifest, all in the GPU's memory."""
    engine, trt = loaded.engine, loaded.trt
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    dtypes = {name: _dtype(engine.get_tensor_dtype(name)) for name in names}
    takes = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    check_tensors(inputs, {name: dtypes[name] for name in takes}, "input")
    check_tensors(outputs, {name: dtypes[name] for name in names if name not in takes}, "output")
    for name in names:
        if engine.get_tensor_location(name) == trt.TensorLocation.HOST:
            raise EngineError(f"'{name}' is a shape tensor, kept on the host, which edgekit does not run")


def _dtype(kind: Any) -> str:
    name = str(kind.name)
    return _DTYPES.get(name, name.lower())


def _open_shape(sizes: Sequence[int]) -> tuple[int | None, ...]:
    return tuple(None if size == _OPEN else size for size in sizes)


def _fits(engine: Any, name: str, profile: int, shape: tuple[int, ...]) -> bool:
    least, _, most = engine.get_tensor_profile_shape(name, profile)
    return len(least) == len(shape) and all(
        low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
    )


def _no_profile(engine: Any, names: Sequence[str], shapes: Shapes) -> str:
    for name, shape in zip(names, shapes, strict=True):
        ranges = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
        if not any(_fits(engine, name, index, shape) for index in range(len(ranges))):
            words = " or ".join(f"{tuple(least)} to {tuple(most)}" for least, _, most in ranges)
            return f"'{name}' has shape {shape}, the engine was built for {words}; give that, or widen the recipe"
    return f"no profile of the engine takes shapes {', '.join(map(str, shapes))} together"
