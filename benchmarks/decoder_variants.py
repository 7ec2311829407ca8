"""The files of one decoder, measured: bytes, perplexity and time for a token. Part of language_decoder.py."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoder_training import CONTEXT, load_rows
from edgekit.conversion import Source, find_converter
from edgekit.decoding import export_decoder
from edgekit.exporting import export_source
from edgekit.loading import load
from edgekit.perplexity import logits_of_model, logits_of_tflite, perplexity

VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "fp32": ("fp32", {}),
    "fp16": ("fp16", {}),
    "dynamic-int8": ("dynamic-int8", {}),
    "dynamic-int8, weight_only": ("dynamic-int8", {"weight_only": True}),
    "int4-weights, blocks of 32": ("int4-weights", {"block_size": 32}),
    "int4-weights, blocks of 32, octav": ("int4-weights", {"block_size": 32, "algorithm": "octav"}),
}
THREADS = 2
PREFILL = 32
_WARM_UP, _ROUNDS, _TOKENS = 32, 12, 8  # tokens; turns of each file; tokens in a turn
_WHOLE_TURNS = 2  # runs of a file without a cache in a turn

Step = Callable[[int], object]  # runs the model for the token at a place


@dataclass(frozen=True)
class Row:
    """One file."""

    variant: str
    bytes: int
    perplexity: float
    rise: float  # of the perplexity, as a fraction of the Keras model's
    token_ms: float  # median, with the cache
    whole_ms: float  # median of a run of the whole context, which a token costs without the cache
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All of them."""

    parameters: int
    float_perplexity: float
    tokens: int  # that were foretold
    threads: int
    warm_up: int
    samples: int  # tokens behind each median
    rows: tuple[Row, ...]


def measure(folder: Path, work: Path, *, rows: int, only: str = "") -> Report:
    """Convert, ask each file for the held-back text, then time them in turns."""
    held = load_rows(folder).held_back[:rows]
    names = [name for name in VARIANTS if only in name]
    loaded = load(folder, lengths={"tokens": CONTEXT})
    reference, parameters = perplexity(logits_of_model(loaded), held), loaded.parameters
    print(
        f"float: {parameters:,} parameters, perplexity {reference.value:.2f} on {reference.tokens:,} tokens", flush=True
    )
    (work / "kept").mkdir()
    (work / "whole").mkdir()
    kept = export_decoder(loaded, work / "kept", context=CONTEXT, prefill=PREFILL)
    whole = export_source(loaded, work / "whole")
    del loaded
    gc.collect()
    files = {name: _made(kept, name, work / "kept" / f"{number}.tflite") for number, name in enumerate(names)}
    wholes = {name: _made(whole, name, work / "whole" / f"{number}.tflite") for number, name in enumerate(names)}
    values = {}
    for name, (path, _) in files.items():
        values[name] = perplexity(logits_of_tflite(path, threads=THREADS), held).value
        print(f"{name:36} {path.stat().st_size:>11,} bytes, perplexity {values[name]:.2f}", flush=True)
    times = _times({name: _kept_step(path) for name, (path, _) in files.items()}, _WARM_UP, _TOKENS)
    whole_times = _times({name: _whole_step(path) for name, (path, _) in wholes.items()}, 1, _WHOLE_TURNS)
    made = tuple(
        Row(
            name, path.stat().st_size, values[name], values[name] / reference.value - 1, times[name],
            whole_times[name], notes,
        )
        for name, (path, notes) in files.items()
    )  # fmt: skip
    for row in made:
        print(_line(row), flush=True)
    return Report(
        parameters, reference.value, reference.tokens, THREADS, _WARM_UP, _ROUNDS * _TOKENS, made
    )  # fmt: skip


def _made(source: Source, name: str, output: Path) -> tuple[Path, tuple[str, ...]]:
    precision, options = VARIANTS[name]
    converter = find_converter("tflite").with_options(options, where=name)
    artifact = converter.convert(source, precision=precision, calibration=None, output=output)
    return artifact.path, artifact.notes


def _kept_step(path: Path) -> Step:
    """Of a file with a cache. The places before are those of the warm-up: what stands there costs the same."""
    from ai_edge_litert.interpreter import Interpreter

    decode = Interpreter(str(path), num_threads=THREADS).get_signature_runner("decode")
    return lambda place: decode(tokens=np.array([[7]], np.int32), position=np.array([place], np.int32))


def _whole_step(path: Path) -> Step:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=THREADS).get_signature_runner()
    tokens: NDArray[np.int32] = np.full((1, CONTEXT), 7, np.int32)
    return lambda _place: run(tokens=tokens)


def _times(steps: dict[str, Step], warm_up: int, tokens: int) -> dict[str, float]:
    """Median milliseconds of a step near the end of the context, the files taking turns."""
    for step in steps.values():
        for place in range(CONTEXT - warm_up, CONTEXT):
            step(place)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            for place in range(CONTEXT - tokens, CONTEXT):
                begun = time.perf_counter_ns()
                step(place)
                found[name].append((time.perf_counter_ns() - begun) / 1e6)
    return {name: float(np.median(times)) for name, times in found.items()}


def _line(row: Row) -> str:
    return (
        f"{row.variant:36} {row.bytes:>11,} bytes  perplexity {row.perplexity:.2f} ({100 * row.rise:+.2f} %)  "
        f"{row.token_ms:.2f} ms, without a cache {row.whole_ms:.1f} ms"
    )
