"""The ways to run a model without edgekit, which `runtime_overhead.py` sets beside a session: one function for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter

from edgekit.manifest import Binding

Arrays = dict[str, Any]
Run = Callable[[Arrays], Arrays]
LITERT, ONNX = "litert", "onnxruntime"


@dataclass(frozen=True)
class Bare:
    """One opened file: what takes the file's own arrays, by Keras name, and gives arrays of the caller's own."""

    ways: dict[str, Run]
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]

    def quantize(self, arrays: Arrays) -> Arrays:
        """Float to the file's dtypes, with the plainest numpy."""
        return {
            it.name: arrays[it.name] if it.quantization is None else it.quantization.quantize(arrays[it.name], it.dtype)
            for it in self.inputs
        }

    def dequantize(self, arrays: Arrays) -> Arrays:
        """The file's dtypes to float."""
        return {
            it.name: arrays[it.name] if it.quantization is None else it.quantization.dequantize(arrays[it.name])
            for it in self.outputs
        }


def open_bare(engine: str, content: bytes, inputs: tuple[Binding, ...], outputs: tuple[Binding, ...]) -> Bare:
    """By the engine's own Python packages, one thread."""
    ways = _litert(content, inputs, outputs) if engine == LITERT else _onnx(content, inputs, outputs)
    return Bare(ways, inputs, outputs)


def _litert(content: bytes, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> dict[str, Run]:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    takes = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    gives = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    given = [(it.name, takes[it.tensor], interpreter.tensor(takes[it.tensor])) for it in inputs]
    got = [(it.name, gives[it.tensor], interpreter.tensor(gives[it.tensor])) for it in outputs]

    def set_get(arrays: Arrays) -> Arrays:
        for name, index, _ in given:
            interpreter.set_tensor(index, arrays[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index, _ in got}

    def tensor_views(arrays: Arrays) -> Arrays:
        for name, _, view in given:
            view()[...] = arrays[name]
        interpreter.invoke()
        return {name: view().copy() for name, _, view in got}

    return {"set_get": set_get, "tensor_views": tensor_views, "compiled_model": _compiled(content, inputs, outputs)}


def _compiled(content: bytes, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> Run:
    """CompiledModel has its buffers in the file's order; a file of one input and output is enough here."""
    (taken,), (got,) = inputs, outputs
    model = CompiledModel.from_buffer(content)
    (into,), (out,) = model.create_input_buffers(0), model.create_output_buffers(0)
    interpreter = Interpreter(model_content=content)
    shape = tuple(interpreter.get_output_details()[0]["shape"].tolist())
    count, dtype = int(np.prod(shape)), np.dtype(got.dtype).type

    def run(arrays: Arrays) -> Arrays:
        into.write(arrays[taken.name])
        model.run_by_index(0, [into], [out])
        return {got.name: out.read(count, dtype).reshape(shape)}

    return run


def _onnx(content: bytes, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> dict[str, Run]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [it.tensor for it in outputs]
    binding = session.io_binding()

    def run(arrays: Arrays) -> Arrays:
        results = session.run(names, {it.tensor: arrays[it.name] for it in inputs})
        return {it.name: result for it, result in zip(outputs, results, strict=True)}

    def io_binding(arrays: Arrays) -> Arrays:
        for it in inputs:
            binding.bind_cpu_input(it.tensor, arrays[it.name])
        for name in names:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return {it.name: result for it, result in zip(outputs, binding.copy_outputs_to_cpu(), strict=True)}

    return {"run": run, "io_binding": io_binding}


def relu_tflite(size: int) -> bytes:
    """A TFLite file whose only operator is RELU on `x` (1, size) float32, giving `y`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, [1, size], schema.TensorType.FLOAT32, 0
        return made

    operator, code, graph, model = schema.OperatorT(), schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 1
    graph.tensors, graph.inputs, graph.outputs = [tensor("x"), tensor("y")], [0], [1]
    graph.operators = [operator]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def relu_onnx(size: int) -> bytes:
    """The same as ONNX."""
    from onnx import TensorProto, helper

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()
