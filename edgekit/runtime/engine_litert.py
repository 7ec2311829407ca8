"""LiteRT: `ai_edge_litert`, else `tflite_runtime`, else TensorFlow's own copy of the interpreter.

The plain Interpreter's set_tensor, invoke and get_tensor are the fastest of its Python APIs, on small tensors and on
large ones (docs/runtime.md).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: the interpreter's own objects, which have no types

from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.runtime.delegation import read_delegation
from edgekit.runtime.engines import EngineStatus, check_tensors, installed_version
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array

if TYPE_CHECKING:
    from typing import TypeGuard

_GET = 'pip install -U ai-edge-litert, or pip install "edgekit[litert]"'
_AI_EDGE = "ai_edge_litert"
_CPU, _XNNPACK = "cpu", "xnnpack"
_HOMES = {  # top-level module -> module of the Interpreter
    _AI_EDGE: "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
_DISTRIBUTIONS = {
    _AI_EDGE: ("ai-edge-litert", "ai-edge-litert-nightly"),
    "tflite_runtime": ("tflite-runtime", "tflite-runtime-nightly"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-aarch64", "tf-nightly"),
}


def find() -> EngineStatus:
    """The first of the three packages that is installed; a least version counts ai-edge-litert's numbers alone."""
    module = _find_module()
    found = installed_version(module, _DISTRIBUTIONS[module]) if module else None
    if found is None:
        return EngineStatus("litert", None, None, _GET, least_version_applies=True)
    return EngineStatus("litert", found[0], found[1], _GET, least_version_applies=module == _AI_EDGE)


def open_model(
    content: bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    threads: int,
    recipe: Recipe | None = None,  # noqa: ARG001  # of TensorRT alone
    accelerator: str | None = None,
) -> LiteRtRunner:
    """Open a TFLite file; `accelerator` is "cpu", "xnnpack", or the path of a delegate. Raises EngineError."""
    module = _find_module()
    if module is None:
        raise EngineError(f"engine 'litert' is not installed: {_GET}")
    try:
        home = import_module(_HOMES[module])
        more = _asked(home, accelerator)
        interpreter = home.Interpreter(model_content=content, num_threads=threads, **more)
        interpreter.allocate_tensors()
    except ImportError as problem:
        raise EngineError(f"{module} cannot be imported: {problem}") from problem
    except (ValueError, RuntimeError) as problem:
        raise EngineError(f"{module} refuses the model: {problem}") from problem
    name, notes = _what_runs(interpreter, accelerator)
    return LiteRtRunner(interpreter, content, inputs, outputs, accelerator=name, notes=notes)


def _asked(home: Any, accelerator: str | None) -> dict[str, Any]:
    """Arguments of the Interpreter. Raises EngineError for what LiteRT has none of."""
    if accelerator in (None, _XNNPACK):
        return {}
    if accelerator == _CPU:
        kinds = home.OpResolverType
        return {"experimental_op_resolver_type": kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    if not _is_library(accelerator):
        raise EngineError(
            f"accelerator '{accelerator}' was asked for, LiteRT knows {_CPU}, {_XNNPACK} and the library of a "
            "delegate, by its path"
        )
    if os.sep in accelerator and not Path(accelerator).is_file():
        raise EngineError(f"the delegate {accelerator} cannot be loaded: no such file")
    try:
        return {"experimental_delegates": [home.load_delegate(accelerator)]}
    except (ValueError, OSError) as problem:
        raise EngineError(f"the delegate {accelerator} cannot be loaded: {problem}") from problem


def _is_library(accelerator: str | None) -> TypeGuard[str]:
    return accelerator is not None and (os.sep in accelerator or accelerator.endswith((".so", ".dylib", ".dll")))


def _what_runs(interpreter: Any, accelerator: str | None) -> tuple[str, tuple[str, ...]]:
    """What runs the model, and which operators it left. Raises EngineError where what was asked for took none.

    XNNPACK is on by default where it was compiled in; a delegated part of the graph shows as one node.
    """
    details = getattr(interpreter, "_get_ops_details", None)
    if details is None:
        if accelerator not in (None, _CPU):
            raise EngineError(f"accelerator '{accelerator}' was asked for; this interpreter does not say what it took")
        return _CPU, ("this interpreter does not say which operators a delegate took",)
    found = read_delegation(details())
    if not found.delegates:
        if accelerator not in (None, _CPU):
            raise EngineError(f"accelerator '{accelerator}' was asked for and took no operator of the model")
        return _CPU, ()
    library = accelerator if _is_library(accelerator) else None
    name = f"{_CPU} (XNNPACK)" if library is None else f"delegate ({Path(library).name})"
    if not found.left:
        return name, ()
    counts = ", ".join(f"{kind} x {count}" for kind, count in sorted(Counter(found.left).items()))
    what = "XNNPACK" if library is None else "a delegate"
    return name, (f"{len(found.left)} of {found.operators} operators are not run by {what}: {counts}",)


def _find_module() -> str | None:
    return next((module for module in _HOMES if installed_version(module, ()) is not None), None)


class LiteRtRunner:
    """One interpreter. Not thread-safe: the session takes turns."""

    def __init__(
        self,
        interpreter: Any,
        content: bytes,
        inputs: Sequence[Binding],
        outputs: Sequence[Binding],
        *,
        accelerator: str,
        notes: tuple[str, ...],
    ) -> None:
        takes = _match(inputs, interpreter.get_input_details(), "input")
        gives = _match(outputs, interpreter.get_output_details(), "output")
        self.accelerator, self.notes = accelerator, notes
        self.shapes = tuple(_shape(detail) for detail in takes)
        self._content = content  # the interpreter reads its weights from here
        self._interpreter: Any = interpreter
        self._inputs = [detail["index"] for detail in takes]
        self._outputs = [detail["index"] for detail in gives]
        self._views = [interpreter.tensor(index) for index in self._outputs]
        self._sizes = [tuple(detail["shape"].tolist()) for detail in takes]
        self._fixed = all(None not in shape for shape in self.shapes)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Set, invoke, get. Raises EngineError when the interpreter fails."""
        interpreter = self._interpreter
        if not self._fixed:
            self._resize([array.shape for array in arrays])
        try:
            for index, array in zip(self._inputs, arrays):  # noqa: B905  # hot path; lengths were checked at open
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in self._outputs]
        except (ValueError, RuntimeError) as problem:
            raise EngineError(f"LiteRT failed while running: {problem}") from problem

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run, and copy each output from the interpreter's memory. Raises EngineError, also on another shape.

        A view of that memory must not live when the interpreter runs again, so that it is made anew each time.
        """
        interpreter = self._interpreter
        if not self._fixed:
            self._resize([array.shape for array in arrays])
        try:
            for index, array in zip(self._inputs, arrays):  # noqa: B905  # hot path
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            for view, output in zip(self._views, outputs):  # noqa: B905  # hot path
                _copy(view(), output)
        except (ValueError, RuntimeError) as problem:
            raise EngineError(f"LiteRT failed while running: {problem}") from problem

    def call(self, function: str, inputs: Mapping[str, Array]) -> None:
        """Run another signature of the file, which works on the same variables. Raises EngineError.

        While its runner lives, the interpreter refuses to run the main one, so that it is made anew each time.
        """
        try:
            self._interpreter.get_signature_runner(function)(**inputs)
        except (ValueError, RuntimeError) as problem:
            raise EngineError(f"LiteRT failed while running '{function}': {problem}") from problem

    def close(self) -> None:
        """Drop the interpreter and the bytes it reads."""
        self._interpreter = None
        self._views = []
        self._content = b""

    def _resize(self, sizes: list[tuple[int, ...]]) -> None:
        """Sizes that the file leaves open change here; the interpreter plans its memory again."""
        if sizes == self._sizes:
            return
        try:
            for index, size in zip(self._inputs, sizes, strict=True):
                self._interpreter.resize_tensor_input(index, size, strict=True)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as problem:
            self._sizes = []
            raise EngineError(f"LiteRT cannot take inputs of sizes {sizes}: {problem}") from problem
        self._sizes = sizes


def _copy(view: Array, output: Array) -> None:
    if view.shape != output.shape:
        raise EngineError(f"an output has shape {view.shape}, out has {output.shape}")
    output[...] = view


def _match(bindings: Sequence[Binding], details: Sequence[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    """The interpreter's details in the bindings' order."""
    by_name = {detail["name"]: detail for detail in details}
    check_tensors(bindings, {name: detail["dtype"].__name__ for name, detail in by_name.items()}, side)
    return [by_name[binding.tensor] for binding in bindings]


def _shape(detail: dict[str, Any]) -> tuple[int | None, ...]:
    """Fixed sizes as numbers. The batch stays as the file has it: files made for batch 1 hold constants for it."""
    sizes, signature = detail["shape"].tolist(), detail["shape_signature"].tolist() or detail["shape"].tolist()
    return tuple(
        None if axis > 0 and mark == -1 else size
        for axis, (size, mark) in enumerate(zip(sizes, signature, strict=True))
    )
