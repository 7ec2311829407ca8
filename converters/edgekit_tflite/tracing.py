"""Every activation of a TFLite file, and the file cut into parts that compute apart from each other.

LiteRT's own kernels run without delegates, since a delegate keeps what is inside its part of the graph to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any  # Any: the interpreter's objects, which have no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.manifest import Binding
from edgekit.tensors import Array, TensorSpec
from edgekit.tracing import (
    INPUT_OPERATOR,
    Grid,
    Kernel,
    Run,
    TracedTensor,
    Values,
    canonical,
    input_key,
    output_key,
)
from edgekit_tflite.cutting import CUT, cut_model
from edgekit_tflite.graphs import unread
from edgekit_tflite.reading import Role, TFLiteModel, TFLiteOperator, TFLiteTensor, check_opens, damage_of, read_opened

_CHANNEL_AXIS = -1  # TFLite is channels-last
_DEPTHWISE = "DEPTHWISE_CONV_2D"
_BORDER = ("QUANTIZE", "DEQUANTIZE")
_VARIABLE = "VAR_HANDLE"

Key = tuple[int, int]  # as TFLiteTensor.key
Rows = dict[Key, TracedTensor]


class TFLiteTrace:
    """A file of batch 1; the operators of its main graph, with the bodies of loops inside theirs."""

    engine = "litert"

    def __init__(self, path: Path) -> None:
        """Raises ConversionError when LiteRT does not open the file; some files crash it."""
        check_opens(path)
        model = read_opened(path)
        self._path = path
        if any(operator.type == _VARIABLE for operator in model.operators):
            raise ConversionError(
                f"{path} keeps state in variables, and what is compared are samples that do not depend on each other: "
                "give files without state"
            )
        with damage_of(path):
            self.inputs, self.input_specs = _borders(model.inputs)
            self.outputs, self.output_specs = _borders(model.outputs)
            listed, kernels = _rows(model), _kernels(model)
            rows, readers = _distinct(listed), _readers(model, listed)
        self.ambiguous = tuple(row.name for at, row in listed.items() if at not in rows)
        self.tensors: tuple[TracedTensor, ...] = tuple(
            replace(row, kernel=row.key if row.kernel in kernels else None, readers=readers[at])
            for at, row in rows.items()
        )
        self.activations: Mapping[str, str] = {row.key: row.name for row in self.tensors}
        self.kernels: Mapping[str, Kernel] = {
            row.key: kernels[row.kernel] for row in rows.values() if row.kernel in kernels
        }
        self._grids = {row.name: row.grid for row in self.tensors if row.grid is not None}
        self._indexes = {row.name: index for (_, index), row in rows.items()}
        self._interpreter = _interpreter(path, path.read_bytes(), keep_all=True)

    def run(self, inputs: Values) -> dict[str, Array]:
        """Every activation for one sample, by tensor name."""
        return self._invoke(self._interpreter, inputs, self._indexes)

    def cut(self, names: Iterable[str], wanted: Iterable[str]) -> Run:
        """The file cut at these activations."""
        cuts, kept = ([self._indexes[name] for name in group] for group in (names, wanted))
        interpreter = _interpreter(self._path, cut_model(self._path.read_bytes(), cuts, kept), keep_all=False)
        gives = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}

        def run(values: Values) -> dict[str, Array]:
            return self._invoke(interpreter, values, gives)

        return run

    def _invoke(self, interpreter: Any, given: Values, wanted: Mapping[str, int]) -> dict[str, Array]:
        try:
            for detail in interpreter.get_input_details():
                name = detail["name"].removesuffix(CUT)
                grid = self._grids.get(name)
                stored = grid.quantization.quantize(given[name], grid.dtype) if grid else given[name]
                interpreter.set_tensor(detail["index"], stored.astype(detail["dtype"]))
            interpreter.invoke()
        except (ValueError, RuntimeError) as problem:
            reason = " ".join(str(problem).split())
            raise ConversionError(f"{self._path}: LiteRT cannot run it one sample at a time ({reason})") from problem
        return {name: self._real(name, interpreter.get_tensor(index)) for name, index in wanted.items()}

    def _real(self, name: str, stored: Array) -> Array:
        grid = self._grids.get(name)
        return grid.quantization.dequantize(stored) if grid else stored.astype(np.float32)


def _interpreter(path: Path, content: bytes, *, keep_all: bool) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=keep_all,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        raise ConversionError(
            f"{path}: LiteRT cannot run it step by step ({' '.join(str(problem).split())})"
        ) from problem
    return interpreter


def _borders(found: Mapping[str, TFLiteTensor]) -> tuple[tuple[Binding, ...], tuple[TensorSpec, ...]]:
    bindings = tuple(Binding(name, tensor.name, tensor.dtype, tensor.quantization) for name, tensor in found.items())
    specs = tuple(
        TensorSpec(name, (None, *tensor.shape[1:]), "float32" if tensor.quantization else tensor.dtype)
        for name, tensor in found.items()
    )
    return bindings, specs


def _rows(model: TFLiteModel) -> Rows:
    """Activations of the main graph that stand for real numbers, in execution order.

    A float tensor that is quantized next shows as what it becomes there: that is what its readers see. What an integer
    output is dequantized to is no row of its own, nor is what an integer tensor is requantized to for one reader.
    """
    rows = {
        tensor.key: replace(_row(tensor, INPUT_OPERATOR, None), key=input_key(name), scopes=(name,))
        for name, tensor in model.inputs.items()
        if _is_real(tensor)
    }
    outputs = {tensor.key: name for name, tensor in model.outputs.items()}
    empty = unread(model)
    for operator in _computing(model):
        if operator.type == "QUANTIZE":
            if _becomes_quantized(operator, rows):
                _replace_row(rows, operator.inputs[0], operator.outputs[0])
        elif operator.type == "DEQUANTIZE":
            (source, *_), (target, *_) = operator.inputs, operator.outputs
            if target.key in outputs and source.key in rows:
                rows[source.key] = _as_output(rows[source.key], outputs[target.key])
        else:
            for tensor in operator.outputs:
                if _is_real(tensor) and tensor.key not in empty:
                    row = _row(tensor, operator.type, _maker(operator))
                    rows[tensor.key] = _as_output(row, outputs[tensor.key]) if tensor.key in outputs else row
    return rows


def _as_output(row: TracedTensor, name: str) -> TracedTensor:
    return replace(row, key=output_key(name), scopes=(*row.scopes, name))


def _computing(model: TFLiteModel) -> list[TFLiteOperator]:
    """Operators of the main graph that depend on its inputs; the others unpack constants."""
    reached = {tensor.key for tensor in model.inputs.values()}
    found = []
    for operator in model.operators:
        if any(tensor.key in reached for tensor in operator.inputs) and not operator.outputs[0].key[0]:
            reached.update(tensor.key for tensor in operator.outputs)
            found.append(operator)
    return found


def _readers(model: TFLiteModel, rows: Rows) -> dict[Key, tuple[str, ...]]:
    """The names of what is computed from each activation.

    What keeps its grid (a reshape, a maximum) hands its values on, so that its readers are the activation's as well.
    """
    operators = _computing(model)
    shown_as = {
        operator.inputs[0].key: operator.outputs[0].key
        for operator in operators
        if operator.type == "QUANTIZE" and operator.outputs[0].key in rows
    }
    stands_for: dict[Key, tuple[Key, ...]] = {at: (at,) for at in rows}
    stands_for |= {at: (shown,) for at, shown in shown_as.items()}
    found: dict[Key, list[str]] = {at: [] for at in rows}
    for operator in operators:
        sources = [at for tensor in operator.inputs for at in stands_for.get(tensor.key, ())]
        for tensor in operator.outputs:
            made = shown_as.get(tensor.key, tensor.key)
            if operator.type in _BORDER:
                stands_for.setdefault(tensor.key, tuple(sources))
            elif made in rows:
                for at in sources:
                    found[at].append(rows[made].name)
                same = [at for at in sources if rows[at].grid is not None and rows[at].grid == rows[made].grid]
                stands_for[tensor.key] = (made, *same)
    return {at: tuple(dict.fromkeys(names)) for at, names in found.items()}


def _becomes_quantized(operator: TFLiteOperator, rows: Rows) -> bool:
    source = rows.get(operator.inputs[0].key)
    return source is not None and source.grid is None


def _replace_row(rows: Rows, source: TFLiteTensor, target: TFLiteTensor) -> None:
    """Put `target` where `source` stands, under its key."""
    quantized = replace(rows[source.key], name=target.name, grid=_grid(target))
    kept = [(target.key, quantized) if key == source.key else (key, row) for key, row in rows.items()]
    rows.clear()
    rows.update(kept)


def _distinct(rows: Rows) -> Rows:
    """Without tensors whose name or key another one has, too: nobody could tell which is meant."""
    names, keys = [row.name for row in rows.values()], [row.key for row in rows.values()]
    return {at: row for at, row in rows.items() if names.count(row.name) == 1 and keys.count(row.key) == 1}


def _row(tensor: TFLiteTensor, operator: str, kernel: str | None) -> TracedTensor:
    scopes = tuple(scope for scope in tensor.name.split(";") if scope)
    return TracedTensor(
        name=tensor.name,
        key=canonical(tensor.name),
        scopes=scopes,
        operator=operator,
        channel_axis=_CHANNEL_AXIS,
        grid=_grid(tensor),
        kernel=kernel,
        setting=None if operator == INPUT_OPERATOR else tensor.name.split(";")[0],
    )


def _is_real(tensor: TFLiteTensor) -> bool:
    """False for shapes, indices and the like."""
    return tensor.quantization is not None or "float" in tensor.dtype


def _grid(tensor: TFLiteTensor) -> Grid | None:
    return Grid(tensor.quantization, tensor.dtype) if tensor.quantization else None


def _kernels(model: TFLiteModel) -> dict[str, Kernel]:
    """By what makes them in this file."""
    found = {_maker(operator): _kernel(operator) for operator in _computing(model)}
    return {maker: kernel for maker, kernel in found.items() if kernel is not None}


def _maker(operator: TFLiteOperator) -> str:
    return f"maker of tensor {operator.outputs[0].key[1]}"


def _kernel(operator: TFLiteOperator) -> Kernel | None:
    """The largest constant of at least two dimensions, output channels first; None without one, or in packed int4."""
    tables = [t for t in operator.inputs if t.role is Role.PARAMETER and len(t.shape) > 1 and t.dtype in np.sctypeDict]
    if not tables:
        return None
    table = max(tables, key=lambda tensor: tensor.data.size)
    axis = len(table.shape) - 1 if operator.type == _DEPTHWISE else table.axis
    stored = table.data.view(table.dtype).reshape(table.shape)
    values = np.moveaxis(stored, axis, 0).reshape(stored.shape[axis], -1).astype(np.float32)
    if not table.scales:
        return Kernel(values, None)
    steps = np.array(table.scales, np.float32)
    return Kernel((values - np.array(table.zero_points, np.float32)[:, None]) * steps[:, None], steps)
