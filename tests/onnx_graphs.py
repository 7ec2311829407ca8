"""Tiny ONNX files, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH: tuple[int | str, ...] = ("batch", 3, 8, 8)


def constant(name: str, values: Any, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int | str] = BATCH,
    dtype: int = TensorProto.FLOAT,
    output_dtype: int | None = None,
    opset: int = 18,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A graph from `x` to `y`, which has as many axes."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", dtype, list(shape))],
        [helper.make_tensor_value_info("y", output_dtype or dtype, [f"axis{index}" for index in range(len(shape))])],
        list(constants),
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def saved(made: onnx.ModelProto, path: Path) -> Path:
    onnx.save(made, path)
    return path


def convolution(path: Path, *, shape: Sequence[int | str] = BATCH) -> Path:
    """A convolution of 3 channels to 4, and a Relu."""
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    return saved(model(nodes, [constant("kernel", kernel)], shape=shape), path)
