"""What the runtime costs before its first result, and over a long life: imports, opening, memory, size, a soak.

    python benchmarks/runtime_cold.py BUNDLE [--rounds N] [--soak RUNS]

Every figure of a start comes from fresh processes, edgekit's and the bare engine's in turns, with compiled bytecode as
an installed package has it. numpy is imported before the clock starts. `import` is edgekit.runtime's; `open` goes from
there to the first result, with the import of the engine on both sides, and on edgekit's with all that it checks.
`start` is both. `cpu` is the process' own time, which other work on the machine stretches less. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.bundle import Bundle
from edgekit.devices.zipapp import write_zipapp
from edgekit.runtime import open_bundle

ROUNDS, SOAK_RUNS, RUNS_EACH = 15, 200_000, 1_000
FORMATS = {"litert": "tflite", "onnxruntime": "onnx"}

_FINISH = """
print(json.dumps({"start_ms": (done - begin) * 1e3, "open_ms": (done - imported) * 1e3,
    "import_ms": (imported - begin) * 1e3, "rss": rss(),
    "import_cpu_ms": (imported_cpu - cpu) * 1e3, "open_cpu_ms": (done_cpu - imported_cpu) * 1e3}))
"""
_BEGIN = """
import json, sys, time, numpy
def rss():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmRSS"].split()[0]) * 1024
path, shape, dtype, engine = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
zeros = numpy.zeros(shape, dtype)
begin, cpu = time.perf_counter(), time.process_time()
"""
EDGEKIT = f"""{_BEGIN}
from edgekit.runtime import open_bundle
imported, imported_cpu = time.perf_counter(), time.process_time()
session = open_bundle(path, variant=sys.argv[5], engine=engine)
session.run({{session.inputs[0].name: zeros}}, raw=True)
done, done_cpu = time.perf_counter(), time.process_time()
{_FINISH}"""
LITERT = f"""{_BEGIN}
imported, imported_cpu = time.perf_counter(), time.process_time()
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_content=open(path, "rb").read(), num_threads=1)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], zeros)
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
done, done_cpu = time.perf_counter(), time.process_time()
{_FINISH}"""
ONNX = f"""{_BEGIN}
imported, imported_cpu = time.perf_counter(), time.process_time()
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(open(path, "rb").read(), options, providers=["CPUExecutionProvider"])
session.run(None, {{session.get_inputs()[0].name: zeros}})
done, done_cpu = time.perf_counter(), time.process_time()
{_FINISH}"""
BARE = {"litert": LITERT, "onnxruntime": ONNX}


def main() -> None:
    """Measure everything on the bundle's first variant of each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--soak", type=int, default=SOAK_RUNS)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        figures: dict[str, object] = {"load_before": os.getloadavg()[0], "rounds": args.rounds}
        figures |= {engine: _starts(engine, args.bundle, Path(folder), args.rounds) for engine in FORMATS}
        write_zipapp(Path(folder, "runtime.pyz"))
        figures["zipapp_bytes"] = Path(folder, "runtime.pyz").stat().st_size
        figures["soak"] = soak(args.bundle, args.soak)
    print(json.dumps(figures, indent=2))


def _starts(engine: str, bundle: Path, work: Path, rounds: int) -> dict[str, object]:
    with Bundle.open(bundle) as opened:
        variant = next(it for it in opened.manifest.variants if it.format == FORMATS[engine])
        model = work / variant.member.path
        model.write_bytes(opened.read(variant.member.path))
        shape = [size or 1 for size in opened.manifest.inputs[0].shape]
    common = (json.dumps(shape), variant.inputs[0].dtype, engine)
    argvs = {
        "edgekit": (EDGEKIT, str(bundle.resolve()), *common, variant.id),
        "bare": (BARE[engine], str(model), *common),
    }
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(work / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in argvs}
    for _ in range(rounds + 1):
        for name, argv in argvs.items():
            ended = subprocess.run(
                [sys.executable, "-c", *argv], env=environment, capture_output=True, text=True, check=True
            )
            found[name].append(json.loads(ended.stdout.splitlines()[-1]))
    kept = {name: runs[1:] for name, runs in found.items()}  # the first compiled the bytecode
    return {"variant": variant.id, **_summary(kept)}


def _summary(kept: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for key in ("import_ms", "import_cpu_ms", "open_ms", "open_cpu_ms", "start_ms", "rss"):
        ours, theirs = ([run[key] for run in kept[name]] for name in ("edgekit", "bare"))
        figures[key] = {
            "edgekit": round(median(ours), 2), "bare": round(median(theirs), 2),
            "edgekit_least": round(min(ours), 2), "bare_least": round(min(theirs), 2),
        }  # fmt: skip
        if not key.startswith("import"):  # of which the bare side has none
            figures[f"{key.removesuffix('_ms')}_ratio"] = round(median(ours) / median(theirs), 3)
            figures[f"{key.removesuffix('_ms')}_least_ratio"] = round(min(ours) / min(theirs), 3)
    return figures


def soak(bundle: Path, runs: int) -> dict[str, object]:
    """Open, run, close, again and again; what memory grows by after the first tenth."""
    settled, points = 0, []
    for done in range(0, runs, RUNS_EACH):
        with open_bundle(bundle) as session:
            sample = {spec.name: np.zeros([size or 1 for size in spec.shape], spec.dtype) for spec in session.inputs}
            for _ in range(min(RUNS_EACH, runs - done)):
                session.run(sample)
            variant = session.choice.variant
        gc.collect()
        points.append(_rss_bytes())
        if done < runs / 10:
            settled = points[-1]
    return {
        "variant": variant, "runs": runs, "opened": len(points), "settled_rss_bytes": settled,
        "last_rss_bytes": points[-1], "grown_bytes": points[-1] - settled,
    }  # fmt: skip


def _rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


if __name__ == "__main__":
    main()
