"""A model of Triton's Python backend, run as the backend runs it: in a process of its own, imported from its version.

The backend's module is played by a few lines with the names that its README documents.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

_BACKEND = """
class Tensor:
    def __init__(self, name, values):
        self.name, self.values = name, values

    def as_numpy(self):
        return self.values


class TritonError(Exception):
    pass


class InferenceResponse:
    def __init__(self, output_tensors, error=None):
        self.output_tensors, self.error = output_tensors, error


def get_input_tensor_by_name(request, name):
    return next(tensor for tensor in request if tensor.name == name)
"""
_RUN = """
import importlib, sys
from pathlib import Path
import numpy as np

folder, scratch = map(Path, sys.argv[1:])
sys.path += [str(scratch), str(folder)]
import triton_python_backend_utils as backend

model = importlib.import_module("1.model").TritonPythonModel()
model.initialize({})
import edgekit

assert Path(edgekit.__file__).is_relative_to(folder), edgekit.__file__
unwanted = {"keras", "tensorflow", "edgekit.runtime", "edgekit.bundle", "edgekit.manifest"} & set(sys.modules)
assert not unwanted, unwanted
request = [backend.Tensor(name, values) for name, values in np.load(scratch / "in.npz").items()]
(response,) = model.execute([request])
if response.error:
    sys.exit(str(response.error))
np.savez(scratch / "out.npz", **{tensor.name: tensor.as_numpy() for tensor in response.output_tensors})
"""


def run_python_model(folder: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of version 1. Raises RuntimeError with what the model answers instead."""
    with TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "triton_python_backend_utils.py").write_text(_BACKEND)
        np.savez(scratch / "in.npz", **inputs)
        argv = [sys.executable, "-I", "-c", _RUN, str(folder), name]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        if ended.returncode:
            raise RuntimeError(ended.stderr)
        with np.load(scratch / "out.npz") as found:
            return dict(found)
