"""The ONNX files of one decoder: bytes, perplexity and time for a token. Part of language_decoder.py.

Times are the processor's, of one thread, for a token near the end of the context, so that other work counts less.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoder_training import CONTEXT, load_rows
from edgekit.conversion import find_converter
from edgekit.decoding import POSITION
from edgekit.decoding_past import export_with_past
from edgekit.loading import load
from edgekit.perplexity import logits_of_onnx, perplexity

PRECISIONS = ("fp32", "fp16", "dynamic-int8", "int4-weights")
_TURNS, _TOKENS = 40, 5  # of each file; in a turn


@dataclass(frozen=True)
class OnnxRow:
    """One file."""

    precision: str
    bytes: int
    perplexity: float
    token_cpu_ms: float  # median


def measure(folder: Path, work: Path, *, rows: int) -> list[OnnxRow]:
    """Convert, time in turns, then ask each file for the held-back text."""
    held = load_rows(folder).held_back[:rows]
    source = export_with_past(load(folder, lengths={"tokens": CONTEXT}), work, context=CONTEXT)
    converter = find_converter("onnx")
    files = {
        name: converter.convert(source, precision=name, calibration=None, output=work / f"{name}.onnx").path
        for name in PRECISIONS
    }
    times = cpu_ms(files)
    found = []
    for name, path in files.items():
        value = perplexity(logits_of_onnx(path, threads=2), held, pad=0).value
        found.append(OnnxRow(name, path.stat().st_size, value, times[name]))
        print(f"{name:14} {found[-1].bytes:>11,} bytes, perplexity {value:.2f}, {times[name]:.2f} ms", flush=True)
    return found


def cpu_ms(files: dict[str, Path]) -> dict[str, float]:
    """Median milliseconds of one token in each file, the files taking turns."""
    sessions = {name: _open(path) for name, path in files.items()}
    found: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(_TURNS):
        for name, (session, given) in sessions.items():
            for _ in range(_TOKENS):
                begun = time.thread_time_ns()
                session.run(None, given)
                if turn:  # the first is the warm-up
                    found[name].append((time.thread_time_ns() - begun) / 1e6)
    return {name: float(np.median(times)) for name, times in found.items()}


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {
        port.name: np.zeros(
            [size if isinstance(size, int) else 1 for size in port.shape],
            np.int32 if port.type == "tensor(int32)" else np.float32,
        )
        for port in session.get_inputs()
    }
    given[POSITION][:] = max(0, next(iter(session.get_inputs()[2:])).shape[2] - 2)
    return session, given
