"""ONNX graphs as PyTorch's exporters write them, with the trained weights of tests/conftest.py's digits in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE, SCORES = "input.1", "output"
LEAST_IR = {11: 6, 12: 7, 13: 7}
EPSILON = 1e-3  # of Keras's BatchNormalization


def weights_of(keras_file: Path) -> dict[str, np.ndarray]:
    """Channels first, under the names of a torch.nn.Module."""
    import keras

    model = keras.saving.load_model(keras_file, compile=False)
    layer = {item.name: item.get_weights() for item in model.layers}
    kernel, bias = layer["probabilities"]
    found = {
        "layer1.0.conv1.weight": layer["conv"][0].transpose(3, 2, 0, 1),
        "layer2.0.conv1.weight": layer["depthwise"][0].transpose(2, 3, 0, 1),
        "fc.weight": kernel.reshape(4, 4, 8, 10).transpose(3, 2, 0, 1).reshape(10, 128),
        "fc.bias": bias,
    }
    for name, keras_name in (("layer1.0.bn1", "norm"), ("layer2.0.bn1", "depthwise_norm")):
        parts = ("weight", "bias", "running_mean", "running_var")
        found |= {f"{name}.{part}": values for part, values in zip(parts, layer[keras_name], strict=True)}
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


def torch_model(
    weights: dict[str, np.ndarray],
    *,
    opset: int = 17,
    batch: int | str = "batch_size",
    size: int | str = 8,
    old_style: bool = False,
) -> onnx.ModelProto:
    """Softmax scores `output` (batch, 10) of `input.1` (batch, 1, 8, 8); `old_style` lists the weights as inputs."""
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    inputs = [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [batch, 1, size, size])]
    if old_style:
        inputs += [helper.make_tensor_value_info(it.name, it.data_type, list(it.dims)) for it in initializers]
    graph = helper.make_graph(
        list(_nodes()), "main_graph", inputs,
        [helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [batch, 10])], initializers,
    )  # fmt: skip
    version = 3 if old_style else LEAST_IR.get(opset, 8 if opset < 19 else 10)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version, producer_name="pytorch"
    )


def _nodes() -> Iterator[Any]:
    before = IMAGE
    for number, group in ((1, 1), (2, 8)):
        scope, module = f"/layer{number}/layer{number}.0", f"layer{number}.0"
        conv, norm, relu = (
            f"{scope}/{part}_output_0" for part in ("conv1/Conv", "bn1/BatchNormalization", "relu/Relu")
        )
        statistics = [f"{module}.bn1.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        yield helper.make_node(
            "Conv", [before, f"{module}.conv1.weight"], [conv], name=f"{scope}/conv1/Conv",
            kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=group,
        )  # fmt: skip
        yield helper.make_node(
            "BatchNormalization", [conv, *statistics], [norm], name=f"{scope}/bn1/BatchNormalization", epsilon=EPSILON
        )
        yield helper.make_node("Relu", [norm], [relu], name=f"{scope}/relu/Relu")
        before = relu
    pool, flat, scores = "/maxpool/MaxPool_output_0", "/Flatten_output_0", "/fc/Gemm_output_0"
    yield helper.make_node("MaxPool", [before], [pool], name="/maxpool/MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    yield helper.make_node("Flatten", [pool], [flat], name="/Flatten", axis=1)
    yield helper.make_node("Gemm", [flat, "fc.weight", "fc.bias"], [scores], name="/fc/Gemm", transB=1)
    yield helper.make_node("Softmax", [scores], [SCORES], name="/Softmax", axis=1)


def with_outside_weights(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Save a model with every weight in a file beside it."""
    onnx.save(
        model, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=location, size_threshold=0
    )
    return path


def relocated(path: Path, **entries: str) -> None:
    """Change what an .onnx file says of where its first outside weights are; None takes an entry away."""
    model = onnx.load(str(path), load_external_data=False)
    tensor = next(it for it in model.graph.initializer if it.data_location == TensorProto.EXTERNAL)
    kept = {it.key: it.value for it in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def channels_first(image: np.ndarray) -> np.ndarray:
    """(n, 8, 8, 1) -> (n, 1, 8, 8)."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))
