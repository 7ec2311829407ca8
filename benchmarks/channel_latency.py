"""Does a cut of multiply-accumulates show as latency? MobileNetV2 at 224 × 224, channels removed, TFLite on this CPU.

    python benchmarks/channel_latency.py

Random weights with settled BatchNormalization: latency does not depend on them. All files of one precision are run in
turns in one process, one thread.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

import edgekit
from benchmarks import zoo
from edgekit.compression.kernels import kernels
from edgekit.compression.macs import costs, macs
from edgekit.data import Data
from edgekit.files import write_text
from edgekit.loading import LoadedModel, load
from examples.study import latencies_ms

FIGURES = Path(__file__).parents[1] / "examples" / "figures" / "channel-latency.json"
RATIOS = (0.25, 0.5, 0.75)
PRECISIONS = ("fp32", "int8")
SAMPLES = 16


def main() -> None:
    """Cut, convert, measure, write the figures."""
    original = load(zoo.build("MobileNetV2", size=224, classes=1000))
    models = {"whole": original}
    for ratio in RATIOS:
        models[f"{ratio:.0%} of the channels removed"] = edgekit.compress(
            original, edgekit.PruneChannels(ratio, epochs=0)
        )
    data = _data(original)
    with tempfile.TemporaryDirectory(prefix="edgekit-latency-") as folder:
        bundles = {name: _bundle(model, data, Path(folder, str(i))) for i, (name, model) in enumerate(models.items())}
        medians = {
            precision: latencies_ms({name: (path, f"tflite-{precision}") for name, path in bundles.items()})
            for precision in PRECISIONS
        }
    figures = {name: _figures(name, model, original, medians) for name, model in models.items()}
    FIGURES.parent.mkdir(exist_ok=True)
    write_text(FIGURES, json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def _data(model: LoadedModel) -> Data:
    """Random pictures, labelled by the model itself."""
    columns = zoo.inputs(model.model, SAMPLES)
    (scores,) = model.predict(columns).values()
    return Data(columns, scores.argmax(axis=-1).astype(np.int64), "random pictures")


def _bundle(model: LoadedModel, data: Data, folder: Path) -> Path:
    targets = {"local": PRECISIONS}
    built = edgekit.build(
        model, targets=targets, calibration=data, evaluation=data, output=folder / "mobilenet-1.0.0.edgekit"
    )
    return built.bundle


def _figures(
    name: str, model: LoadedModel, original: LoadedModel, medians: dict[str, dict[str, float]]
) -> dict[str, object]:
    """MACs, those of depthwise convolutions, and latency, each as a share of the original's too."""
    share = macs(model.model) / macs(original.model)
    depthwise = depthwise_macs(model) / depthwise_macs(original)
    return {
        "parameters": model.parameters,
        "macs": macs(model.model),
        "macs_share": round(share, 4),
        "depthwise_share": round(depthwise, 4),
        "median_ms": {precision: times[name] for precision, times in medians.items()},
        "latency_share": {precision: round(times[name] / times["whole"], 4) for precision, times in medians.items()},
    }


def depthwise_macs(model: LoadedModel) -> int:
    """The multiply-accumulates of depthwise convolutions, which shrink with the channels, not with their square."""
    depthwise = {id(kernel.variable) for kernel in kernels(model.model) if kernel.kind == "depthwise"}
    return sum(cost.total() for cost in costs(model.model) if id(cost.variable) in depthwise)


if __name__ == "__main__":
    main()
