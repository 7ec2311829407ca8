"""A TFLite file run on real numbers, one sample at a time, whatever its inputs and outputs are stored as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: the interpreter's details of a tensor, which have no types

import numpy as np

from edgekit.tensors import Array, Quantization
from edgekit_tflite.activations import THREADS
from edgekit_tflite.signatures import first_signature


class Runner:
    """Calls a file's signature."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=THREADS)
        self._runner = interpreter.get_signature_runner(first_signature(path))
        self._takes = {name: _quantization(it) for name, it in self._runner.get_input_details().items()}
        self._gives = {name: _quantization(it) for name, it in self._runner.get_output_details().items()}

    def __call__(self, feed: Mapping[str, Array]) -> list[Array]:
        """float32 outputs of one sample (arrays of batch 1 by signature name), in the order of their names."""
        stored = {
            name: array if (grid := self._takes[name]) is None else grid[0].quantize(array, grid[1])
            for name, array in feed.items()
        }
        given = self._runner(**stored)
        return [
            given[name].astype(np.float32) if (grid := self._gives[name]) is None else grid[0].dequantize(given[name])
            for name in sorted(given)
        ]


def _quantization(detail: Mapping[str, Any]) -> tuple[Quantization, str] | None:
    scale, zero_point = detail["quantization"]
    return (Quantization(float(scale), int(zero_point)), np.dtype(detail["dtype"]).name) if scale else None
