"""The regression gate on real runs: ten times a bundle against itself, and in turns against one that is slower.

    python benchmarks/gate_real.py [--times N] [-o out/gate-real]

Two CNNs on 8 x 8 digits (scikit-learn's), enlarged to 32 x 32: eight convolutions of 32 filters, and nine. The first
has one channel to read and costs little, so that the ninth is about a seventh more. Both are trained, built and packed
by edgekit, and judged by `edgekit test NEW --baseline OLD` on this machine. Each verdict is a line of gate-real.jsonl
as soon as it is there: an interrupted run goes on. Fails when an equal bundle failed, or a slower one did not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

TIMES = 10
VARIANT = "tflite-fp32"
FILTERS = 32
CONVOLUTIONS = {"1.0.0": 8, "1.1.0": 9}
SAME, SLOWER = "same", "deeper"


def data(folder: Path) -> Path:
    """Digits as image (n, 32, 32, 1) float32 in [0, 1], and y."""
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    image = np.kron(images.reshape(-1, 8, 8), np.ones((4, 4)))[..., np.newaxis] / 16
    path = folder / "digits.npz"
    np.savez(path, image=image.astype(np.float32), y=labels.astype(np.int64))
    return path


def bundle(folder: Path, version: str) -> Path:
    """Trained and packed, unless it is there."""
    path = folder / version / f"digits-{version}.edgekit"
    if path.exists():
        return path
    import keras
    from keras import layers

    import edgekit

    source = data(folder)
    keras.utils.set_random_seed(0)
    inputs = outputs = keras.Input((32, 32, 1), name="image")
    for index in range(CONVOLUTIONS[version]):
        outputs = layers.Conv2D(FILTERS, 3, padding="same", activation="relu", name=f"conv{index}")(outputs)
    outputs = layers.GlobalAveragePooling2D()(outputs)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="probabilities")(outputs), name="digits")
    model.compile("adam", "sparse_categorical_crossentropy")
    with np.load(source) as arrays:
        model.fit(arrays["image"], arrays["y"], epochs=1, verbose=0)
    path.parent.mkdir(exist_ok=True)
    targets = {"local": ["fp32"]}
    edgekit.build(model, targets=targets, evaluation=str(source), calibration=str(source), output=path)
    return path


def judge(old: Path, new: Path, *more: str) -> dict[str, Any]:
    """One `edgekit test --baseline`, as a user would run it, with `more` words."""
    argv = ["test", new, "--baseline", old, "--variant", VARIANT, "--no-history", "--json", *more]
    begun = perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, argv)], stdout=subprocess.PIPE, text=True, check=False
    )
    report = json.loads(done.stdout)
    gate = report["devices"][0]["gate"] if "devices" in report else None
    if gate is None:
        raise SystemExit(f"no verdict (exit code {done.returncode}): {done.stdout[-2000:]}")
    kept = {name: gate[name] for name in ("verdict", "reason", "estimate", "baseline_ms", "candidate_ms")}
    return {
        "exit_code": done.returncode,
        "other_failures": report["failed"] - (gate["verdict"] == "fail"),
        "wall_s": round(perf_counter() - begun, 1),
        "load_average": os.getloadavg()[0],
        **kept,
    }


def main() -> None:
    """Judge what the notebook lacks, then say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=TIMES, metavar="N", help=f"verdicts on each ({TIMES})")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/gate-real"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    notebook = args.output / "gate-real.jsonl"
    lines = notebook.read_text().splitlines() if notebook.exists() else []
    runs = {line["run"]: line for line in map(json.loads, lines)}
    old, new = CONVOLUTIONS
    kinds = {SAME: old, SLOWER: new}
    wanted = {f"{kind} {index + 1}": kinds[kind] for index in range(args.times) for kind in kinds}
    for name, version in wanted.items():
        if name not in runs:
            runs[name] = {"run": name, **judge(bundle(args.output, old), bundle(args.output, version))}
            with notebook.open("a") as stream:
                stream.write(json.dumps(runs[name]) + "\n")
        print(f"{name}: exit code {runs[name]['exit_code']}, {runs[name]['verdict']}, {runs[name]['reason']}")
    failed = [name.split()[0] for name in wanted if runs[name]["verdict"] == "fail"]
    alarms, caught = failed.count(SAME), failed.count(SLOWER)
    print(f"of {args.times} each, {alarms} equal bundles failed, and {caught} slower ones were caught")
    if alarms or caught < args.times:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
