"""A model of Triton's Python backend: raw pixels or samples to what the model beside it takes.

It is copied into the repository as `model.py`, with the few modules of edgekit that it needs in a folder beside it: the
server needs Python 3.10 and numpy. Written by edgekit; what it does stands in `preprocessing.json`.
Source: triton-inference-server/python_backend, README.md, "Usage".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: objects of the backend

_FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(_FOLDER))  # the edgekit that was copied, whatever the server has

import numpy as np  # noqa: E402
import triton_python_backend_utils as backend  # noqa: E402

from edgekit.errors import EdgekitError  # noqa: E402
from edgekit.preprocessing.applying import preprocess  # noqa: E402
from edgekit.preprocessing.declared import Preprocessing  # noqa: E402
from edgekit.strict import parse  # noqa: E402
from edgekit.tensors import Array, Quantization, TensorSpec  # noqa: E402

DECLARED = "preprocessing.json"


class TritonPythonModel:
    """The name and the methods that the backend looks for."""

    def initialize(self, _args: Mapping[str, str]) -> None:
        """Read what is declared."""
        said = json.loads((_FOLDER / DECLARED).read_text(encoding="utf-8"))
        self._inputs = [_Input(item) for item in said["inputs"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request; a mistake in one is no mistake in the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            return backend.InferenceResponse(output_tensors=[item.prepared(request) for item in self._inputs])
        except EdgekitError as problem:
            return backend.InferenceResponse(output_tensors=[], error=backend.TritonError(str(problem)))


class _Input:
    """One input of the model, and what is declared of it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._spec = TensorSpec(said["name"], tuple(said["shape"]), said["dtype"])
        self._declared = parse(Preprocessing, said["preprocessing"], where=DECLARED)
        self._tensor, self._stored = said["tensor"], said["stored_dtype"]
        quantization = said["quantization"]
        self._quantization = None if quantization is None else parse(Quantization, quantization, where=DECLARED)

    def prepared(self, request: Any) -> Any:
        raw = backend.get_input_tensor_by_name(request, self._spec.name).as_numpy()
        return backend.Tensor(self._tensor, self._for_file(preprocess(raw, self._declared, self._spec)))

    def _for_file(self, values: Array) -> Array:
        if self._quantization is not None:
            return self._quantization.quantize(values, self._stored)
        return np.ascontiguousarray(values, dtype=self._stored)
