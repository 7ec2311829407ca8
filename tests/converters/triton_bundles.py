"""Small bundles that Triton could serve, made by hand: one model of two inputs and two outputs, in ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from edgekit_triton import exporter

from edgekit.bundle import Bundle, write_bundle
from edgekit.bundle_exporters import Exported
from edgekit.manifest import Binding, Golden, Input, Manifest, Provenance, Variant
from edgekit.runtime.golden import write_golden
from edgekit.tensors import TensorSpec
from tests.converters.pbtxt_reader import read_config
from tests.tiny_models import member

INPUTS = (Input("image", (None, 2, 3), "float32"), Input("steps", (None, None), "int64"))
OUTPUTS = (TensorSpec("scores", (None, 3), "float32"), TensorSpec("last", (None,), "int64"))
_RANDOM = np.random.default_rng(3)
GOLDEN = {
    "image": _RANDOM.uniform(0, 1, (4, 2, 3)).astype(np.float32),
    "steps": _RANDOM.integers(0, 9, (4, 5)).astype(np.int64),
}
LABELS = ("cat", 'a "big" dog', "Ünique")


def expected(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"scores": inputs["image"].sum(axis=1), "last": inputs["steps"].sum(axis=1)}


def two_outputs(batch: int | str = "batch", length: int | str = "length", columns: int | str = 3) -> bytes:
    """scores = image summed over its second axis, last = steps summed; their tensors are called otherwise."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["image_in", "axis"], ["scores_out"], keepdims=0),
            helper.make_node("ReduceSum", ["steps:0", "axis"], ["last_out"], keepdims=0),
        ],
        "two",
        [
            helper.make_tensor_value_info("image_in", TensorProto.FLOAT, [batch, 2, columns]),
            helper.make_tensor_value_info("steps:0", TensorProto.INT64, [batch, length]),
        ],
        [
            helper.make_tensor_value_info("scores_out", TensorProto.FLOAT, [batch, columns]),
            helper.make_tensor_value_info("last_out", TensorProto.INT64, [batch]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def variant(precision: str, content: bytes, *, format_name: str = "onnx", **more: Any) -> Variant:
    id_ = f"{format_name}-{precision}"
    values: dict[str, Any] = {
        "id": id_,
        "format": format_name,
        "precision": precision,
        "member": member(f"{id_}.{format_name}", content),
        "targets": ("server",),
        "engine": "tensorrt" if format_name == "tensorrt" else "onnxruntime",
        "engine_least_version": "1.0",
        "inputs": (Binding("image", "image_in", "float32"), Binding("steps", "steps:0", "int64")),
        "outputs": (Binding("scores", "scores_out", "float32"), Binding("last", "last_out", "int64")),
        "golden_tolerance": 1e-6,
    }
    return Variant(**values | more)


def write(
    folder: Path,
    made: Sequence[tuple[Variant, bytes]],
    *,
    labels: Sequence[str] | None = None,
    golden: Mapping[str, np.ndarray] | None = None,
    **more: Any,
) -> Path:
    """`two-1.0.0.edgekit` in `folder`; `more` replaces fields of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = GOLDEN if golden is None else golden
    write_golden(folder / "golden.npz", inputs, expected(inputs))
    files = {"golden.npz": folder / "golden.npz"}
    for item, content in made:
        files[item.member.path] = folder / item.member.path
        files[item.member.path].write_bytes(content)
    manifest = Manifest(
        format_version=1,
        name="two",
        version="1.0.0",
        inputs=INPUTS,
        outputs=OUTPUTS,
        variants=tuple(item for item, _ in made),
        golden=Golden(member("golden.npz", files["golden.npz"].read_bytes()), len(inputs["image"])),
        provenance=Provenance((), {}, "0" * 64, {}),
        labels=None if labels is None else tuple(labels),
    )
    path = folder / "two-1.0.0.edgekit"
    write_bundle(path, replace(manifest, **more), files)
    return path


def one(folder: Path, content: bytes | None = None, **more: Any) -> Path:
    """A bundle of one fp32 ONNX variant."""
    content = two_outputs() if content is None else content
    return write(folder, [(variant("fp32", content), content)], **more)


def export(bundle: Path, output: Path, **options: Any) -> Exported:
    """As `edgekit convert` does it, with its options."""
    with Bundle.open(bundle) as opened:
        return exporter.with_options(options, where="options").export(opened, output)


def config(bundle: Path, output: Path, **options: Any) -> dict[str, Any]:
    """The configuration of an export, read back."""
    return read_config((export(bundle, output, **options).folder / "config.pbtxt").read_text())
