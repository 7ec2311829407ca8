"""What Session.run costs over the bare engine, and which of the engine's own ways is the fastest.

    python benchmarks/runtime_overhead.py [BUNDLE] [--runs N]

For LiteRT and ONNX Runtime, each on a model of one operator, on one with 1 MiB in and out, and on the bundle's variant.
All ways run the same file on the same sample in one process, in turns. `session_raw` does the work of the bare ways;
`session_float` that of the first of them with the plainest numpy quantization around it (`bare_float`); `session_out`
writes into arrays that the caller keeps. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.runtime_paths import LITERT, ONNX, Bare, open_bare, relu_onnx, relu_tflite
from edgekit.bundle import Bundle
from edgekit.manifest import Binding, Input, Member, Variant
from edgekit.runtime import open_file, open_session
from edgekit.runtime.golden import read_golden
from edgekit.runtime.session import Session
from edgekit.runtime.timing import measure
from edgekit.tensors import TensorSpec

WARMUP, RUNS = 200, 5000
SIZES = {"one_operator": 8, "one_mib": 1 << 18}  # of float32
PREFERRED = {LITERT: ("tflite", "int8"), ONNX: ("onnx", "fp32")}


@dataclass(frozen=True)
class Case:
    """One file, opened by edgekit and by hand."""

    session: Session
    bare: Bare
    sample: dict[str, Any]  # float


def main() -> None:
    """Measure every case of both engines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("out/digits-1.0.0.edgekit"))
    parser.add_argument("--warmup", type=int, default=WARMUP)
    parser.add_argument("--runs", type=int, default=RUNS)
    args = parser.parse_args()
    counts = {"warmup": args.warmup, "runs": args.runs}
    figures: dict[str, object] = {"load_before": os.getloadavg()[0], "threads": 1, **counts}
    for engine in (LITERT, ONNX):
        with ExitStack() as stack:
            cases = {name: stack.enter_context(_relu(engine, size)) for name, size in SIZES.items()}
            cases["bundle"] = stack.enter_context(_of_bundle(engine, args.bundle))
            figures[engine] = {name: _compare(case, counts) for name, case in cases.items()}
    print(json.dumps(figures, indent=2))


@contextmanager
def _relu(engine: str, size: int) -> Iterator[Case]:
    content = relu_tflite(size) if engine == LITERT else relu_onnx(size)
    with TemporaryDirectory() as folder:
        path = Path(folder, "relu")
        path.write_bytes(content)
        variant = Variant(
            id="relu", format=PREFERRED[engine][0], precision="fp32", member=Member(path.name, "", len(content)),
            targets=(), engine=engine, engine_least_version="1.0", golden_tolerance=0.0,
            inputs=(Binding("x", "x", "float32"),), outputs=(Binding("y", "y", "float32"),),
        )  # fmt: skip
        inputs, outputs = [Input("x", (None, size), "float32", (-1.0, 1.0))], [TensorSpec("y", (None, size), "float32")]
        with open_file(path, variant, inputs, outputs) as session:
            yield Case(session, open_bare(engine, content, variant.inputs, variant.outputs), session.sample())


@contextmanager
def _of_bundle(engine: str, path: Path) -> Iterator[Case]:
    with Bundle.open(path) as bundle:
        variant = next(it for it in bundle.manifest.variants if (it.format, it.precision) == PREFERRED[engine])
        sample = {name: array[:1] for name, array in read_golden(bundle).inputs.items()}
        content = bundle.read(variant.member.path)
        with open_session(bundle, variant=variant.id, engine=engine) as session:
            yield Case(session, open_bare(engine, content, variant.inputs, variant.outputs), sample)


def _compare(case: Case, counts: dict[str, int]) -> dict[str, object]:
    session, bare, sample = case.session, case.bare, case.sample
    stored, out = bare.quantize(sample), session.run(sample)
    raw_out = session.run(stored, raw=True)
    first = next(iter(bare.ways.values()))
    calls: dict[str, Callable[[], Any]] = {name: _call(way, stored) for name, way in bare.ways.items()}
    calls |= {
        "session_raw": lambda: session.run(stored, raw=True),
        "session_raw_out": lambda: session.run(stored, raw=True, out=raw_out),
        "bare_float": lambda: bare.dequantize(first(bare.quantize(sample))),
        "session_float": lambda: session.run(sample),
        "session_float_out": lambda: session.run(sample, out=out),
    }
    _check_equal(calls, bare)
    medians = {name: timing.median_ms * 1e3 for name, timing in measure(calls, **counts).items()}
    fastest = min(bare.ways, key=medians.__getitem__)
    return {
        **{f"{name}_median_us": round(median, 2) for name, median in medians.items()},
        "fastest_bare": fastest,
        "raw_overhead_us": round(medians["session_raw"] - medians[fastest], 2),
        "raw_ratio": round(medians["session_raw"] / medians[fastest], 4),
        "raw_out_ratio": round(medians["session_raw_out"] / medians[fastest], 4),
        "float_overhead_us": round(medians["session_float"] - medians["bare_float"], 2),
        "float_ratio": round(medians["session_float"] / medians["bare_float"], 4),
    }


def _call(way: Callable[[Any], Any], arrays: dict[str, Any]) -> Callable[[], Any]:
    return lambda: way(arrays)


def _check_equal(calls: dict[str, Callable[[], Any]], bare: Bare) -> None:
    """All ways give the same numbers, or they would not be compared."""
    expected = {"raw": calls[next(iter(bare.ways))](), "float": calls["bare_float"]()}
    for name, call in calls.items():
        for output, array in call().items():
            np.testing.assert_array_equal(array, expected["float" if "float" in name else "raw"][output], name)


if __name__ == "__main__":
    main()
