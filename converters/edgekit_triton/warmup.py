"""Requests that Triton makes of itself before it serves a model, from the bundle's golden vectors.

One golden sample alone, and the same as the largest batch: what a backend sets up for a size is then there. Triton does
not look at the outputs of a warm-up. Source: ModelWarmup in model_config.proto; GenerateWarmupData in
core/src/backend_model_instance.cc, which reads a file of raw values in row-major order from the folder `warmup`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.errors import BundleError
from edgekit.manifest import Binding
from edgekit.runtime.golden import GoldenVectors
from edgekit.tensors import Array, TensorSpec
from edgekit_triton.signature import Signature, Tensor

FOLDER = "warmup"


@dataclass(frozen=True)
class Sample:
    """What one request gives one input; without the batch where Triton batches."""

    input: str  # the name in the file
    file: str
    values: Array


def warmup_samples(signature: Signature, golden: GoldenVectors, *, where: str) -> tuple[Sample, ...]:
    """One sample for each input, in the dtype of the file.

    `where` names the bundle. Raises BundleError when it has no golden sample, DataError when they do not fit the file.
    """
    return tuple(
        _sample(index, tensor, golden.inputs, signature.batched, where) for index, tensor in enumerate(signature.inputs)
    )


def _sample(index: int, tensor: Tensor, inputs: Mapping[str, Array], batched: bool, where: str) -> Sample:
    golden = inputs[tensor.binding.name]
    if not golden.ndim or not len(golden):
        raise BundleError(f"{where}: the golden vectors hold no sample of '{tensor.binding.name}'; build it again")
    batch = tensor.shape[0] if tensor.shape else None
    rows = np.arange(batch or 1) % len(golden)  # a fixed batch takes as many samples as it has
    values = _stored(golden[rows], tensor.binding)
    TensorSpec(tensor.binding.tensor, tensor.shape, tensor.binding.dtype).check(values, where=f"{where}: golden inputs")
    return Sample(tensor.binding.tensor, f"input-{index}.raw", values[0] if batched else values)


def _stored(values: Array, binding: Binding) -> Array:
    if binding.quantization is not None:
        return binding.quantization.quantize(values, binding.dtype)
    return np.ascontiguousarray(values, dtype=binding.dtype)
