"""The inputs and outputs of a model file as Triton's backend finds them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any  # Any: a worker's reply, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.manifest import Binding, Manifest, Variant
from edgekit_triton.choosing import ONNX

_TIMEOUT_S = 600.0
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1"}
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Tensor:
    """One input or output of a file; the shape has the batch, and None where a size is open."""

    binding: Binding
    shape: Shape


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs, in the engine's order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def batched(self) -> bool:
        """True when Triton can batch: the first size of every input and output is open (onnxruntime.cc)."""
        return all(tensor.shape[:1] == (None,) for tensor in (*self.inputs, *self.outputs))


def read_signature(file: Path, variant: Variant, manifest: Manifest) -> Signature:
    """The signature of a variant's file.

    Triton refuses an output whose `dims` are not those that ONNX Runtime states, so ONNX Runtime is asked, in a process
    of its own. A plan can be opened on its GPU alone: there the manifest is believed. Raises ConversionError, and
    EngineError when ONNX Runtime is missing or refuses the file.
    """
    shapes = _stated_by_onnxruntime(file, variant) if variant.format == ONNX else _stated_by_manifest(variant, manifest)
    return Signature(_tensors(variant.inputs, shapes["inputs"]), _tensors(variant.outputs, shapes["outputs"]))


def _stated_by_onnxruntime(file: Path, variant: Variant) -> Mapping[str, Any]:
    request = {
        "model": str(file),
        "inputs": [asdict(binding) for binding in variant.inputs],
        "outputs": [asdict(binding) for binding in variant.outputs],
    }
    return workers.call(
        "edgekit_triton.signature_worker",
        request,
        timeout_s=_TIMEOUT_S,
        what=f"reading variant '{variant.id}'",
        error=ConversionError,
        environment=_ENVIRONMENT,
    )


def _stated_by_manifest(variant: Variant, manifest: Manifest) -> Mapping[str, Sequence[Shape]]:
    inputs = {item.name: item.shape for item in manifest.inputs}
    outputs = {spec.name: spec.shape for spec in manifest.outputs}
    return {
        "inputs": [inputs[binding.name] for binding in variant.inputs],
        "outputs": [outputs[binding.name] for binding in variant.outputs],
    }


def _tensors(bindings: Sequence[Binding], shapes: Sequence[Sequence[int | None]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(binding, tuple(shape)) for binding, shape in zip(bindings, shapes, strict=True))
