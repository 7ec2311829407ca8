"""Whether ONNX Runtime opens a file: tried in the worker that wrote it, before anybody else runs it."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.errors import ConversionError

_ERRORS_ONLY = 3
_NATIVE = re.compile(r"^.*?/onnxruntime_src/.*?\) (?=[A-Z])")  # the place in its C++, before what it says


def check_runs(path: Path, *, label: str) -> None:
    """Raise ConversionError, which calls the file `label`, when it is not valid or ONNX Runtime does not open it.

    Some files crash this process.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1  # the stacks of more would count against a limit of memory
    try:
        onnx.checker.check_model(str(path), full_check=True)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions have no other base
        if isinstance(problem, MemoryError):
            raise
        reason = _NATIVE.sub("", " ".join(str(problem).split()))
        raise ConversionError(f"{label}: onnxruntime {onnxruntime.__version__} does not run it ({reason})") from problem
