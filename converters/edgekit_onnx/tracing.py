"""Every activation of an ONNX file, and the file cut into parts that compute apart from each other.

ONNX Runtime runs the graph as it is written, without its optimizations: a fused node would hide what is inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: onnxruntime's session, which has no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.manifest import Binding
from edgekit.tensors import Array, TensorSpec
from edgekit.tracing import Kernel, Run, TracedTensor, Values
from edgekit_onnx.activations import Activation, distinct, list_activations, list_rows, trained_kernels
from edgekit_onnx.cutting import CUT, cut_graph
from edgekit_onnx.graphs import Graph
from edgekit_onnx.inspection import tensor_spec
from edgekit_onnx.reading import check_one_file, read_model
from edgekit_onnx.running import open_session

if TYPE_CHECKING:
    from onnx import ModelProto


class OnnxTrace:
    """A file whose batch is open or 1. It is opened in this process, which some files crash."""

    engine = "onnxruntime"

    def __init__(self, path: Path) -> None:
        """Raises ConversionError when it is not an ONNX model that ONNX Runtime runs."""
        self._path = path
        self._model: ModelProto = read_model(path, shapes=True)
        check_one_file(path, "what is compared is run as", "run it with onnxruntime, and compare its outputs")
        graph = Graph(self._model)
        values = [value for value in self._model.graph.input if value.name not in graph.constants]
        self.inputs, self.input_specs = _borders([tensor_spec(value) for value in values])
        self.outputs, self.output_specs = _borders([tensor_spec(value) for value in self._model.graph.output])
        listed = list_activations(graph)
        self._found: dict[str, Activation] = distinct(listed)
        self.ambiguous = tuple(name for name in listed if name not in self._found)
        self.tensors: tuple[TracedTensor, ...] = list_rows(graph, self._found)
        self.activations: Mapping[str, str] = {item.key: item.name for item in self._found.values()}
        self.kernels: Mapping[str, Kernel] = trained_kernels(graph, self._found)
        self._session = open_session(_with_outputs(self._model, self._found.values()), where=str(path))

    def run(self, inputs: Values) -> dict[str, Array]:
        """Every activation for one sample, by tensor name, as its readers see it."""
        return self._run(self._session, inputs, self._found.values())

    def cut(self, names: Iterable[str], wanted: Iterable[str]) -> Run:
        """The file cut at these activations."""
        cuts, kept = ([self._found[name] for name in group] for group in (names, wanted))
        session = open_session(cut_graph(self._model, cuts, kept), where=str(self._path))
        given = {value.name for value in session.get_outputs()}
        made = [item for item in kept if item.seen in given]

        def run(values: Values) -> dict[str, Array]:
            return self._run(session, values, made)

        return run

    def _run(self, session: Any, given: Values, wanted: Iterable[Activation]) -> dict[str, Array]:
        items = [item for item in wanted if item.made]
        feeds = {value.name: _typed(given[value.name.removesuffix(CUT)], value.type) for value in session.get_inputs()}
        try:
            results = session.run([item.seen for item in items], feeds)
        except Exception as problem:  # onnxruntime's exceptions have no other base
            reason = " ".join(str(problem).split())
            raise ConversionError(
                f"{self._path}: onnxruntime cannot run it one sample at a time ({reason})"
            ) from problem
        computed = {item.name: result.astype(np.float32) for item, result in zip(items, results, strict=True)}
        return {**{item.name: given[item.name] for item in wanted if not item.made}, **computed}


def _typed(value: Array, kind: str) -> Array:
    return value.astype(np.float16) if kind == "tensor(float16)" else value


def _with_outputs(model: ModelProto, wanted: Iterable[Activation]) -> ModelProto:
    """A copy that gives these activations as outputs, too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in copy.graph.output}
    for item in wanted:
        if item.made and item.seen not in there:
            copy.graph.output.append(onnx.helper.make_tensor_value_info(item.seen, item.element_type, None))
    return copy


def _borders(specs: list[TensorSpec]) -> tuple[tuple[Binding, ...], tuple[TensorSpec, ...]]:
    bindings = tuple(Binding(spec.name, spec.name, spec.dtype) for spec in specs)
    return bindings, tuple(TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype) for spec in specs)
