"""How often each TFLite file of EfficientNet-Lite0 names the class that Keras names, by precision and by setting.

    python benchmarks/tflite_agreement.py [-o FILE.json]

ImageNet weights, photos as in `examples/efficientnet_lite0.py`: calibration on crops of 14, agreement on 200 crops of
five others, and on those of them whose class has a probability of at least SURE in Keras: some photos show nothing that
ImageNet has a class for. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any  # Any: a table of settings, as a project file has it

import numpy as np

from benchmarks.tflite_sides import PRECISIONS
from edgekit.comparison import compare_outputs
from edgekit.comparison.model_file import describe, run_file
from edgekit.conversion import Source, find_converter
from edgekit.exporting import export_source
from edgekit.tensors import Array
from examples import efficientnet_lite0 as example
from examples.study import Notebook

FIGURES = Path(__file__).parents[1] / "examples" / "figures" / "tflite-agreement.json"
SURE = 0.3
FIRST = ["conv2d", "depthwise_conv2d"]  # which `edgekit compare --layers` names as the first culprits of int16x8
LAST = "scores"  # a quarter of the parameters
GPTQ = {"algorithm": "gptq"}
CALIBRATION_CROPS, USUAL = 8, 50  # of each photo; samples in all, where nothing else is said


@dataclass(frozen=True)
class Recipe:
    """One file."""

    precision: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: int = USUAL
    format: str = "tflite"

    @property
    def name(self) -> str:
        """What it is called in the figures."""
        settings = "".join(f", {key} {json.dumps(value)}" for key, value in self.settings.items())
        return f"{self.precision}{settings}" + ("" if self.samples == USUAL else f", {self.samples} samples")


RECIPES = (
    *(Recipe(precision) for precision in PRECISIONS),
    *(Recipe("int8", {"calibration": method}) for method in ("moving-average", "percentile", "mse", "auto")),
    *(Recipe("int8", {"calibration": "percentile", "percentile": share}) for share in (99.9, 99.999)),
    Recipe("int8", {"bias_correction": False}),
    *(Recipe("int8", samples=samples) for samples in (4, 8, 16, 112)),
    Recipe("int8", {"keep_float": FIRST}),
    Recipe("int8", {"keep_float": FIRST, "calibration": "mse"}, samples=112),
    Recipe("int16x8", {"keep_float": FIRST}),
    *(Recipe(precision, GPTQ) for precision in ("int8", "int16x8", "int4-weights", "dynamic-int8")),
    *(Recipe("int8", {**GPTQ, "calibration": "mse"}, samples=samples) for samples in (16, USUAL, 112)),
    Recipe("int8", {**GPTQ, "calibration": "auto"}, samples=112),
    Recipe("int8", {**GPTQ, "calibration": "mse", "bias_correction": False}),
    Recipe("int8", {**GPTQ, "keep_float": FIRST, "calibration": "mse"}, samples=112),
    Recipe("int16x8", {**GPTQ, "bias_correction": False}),
    Recipe("int16x8", GPTQ, samples=112),
    Recipe("int16x8", {**GPTQ, "keep_float": FIRST}, samples=112),
    Recipe("int16x8", {**GPTQ, "layers": {LAST: "fp16"}}),
    Recipe("int16x8", {**GPTQ, "layers": {LAST: "fp16", **dict.fromkeys(FIRST, "fp16")}}),
    Recipe("int16x8", {**GPTQ, "layers": {LAST: "fp16"}}, samples=112),
    Recipe("int4-weights", {"algorithm": "octav"}),
    Recipe("int8", {"ops": {"FULLY_CONNECTED": "int4-weights"}}),
)  # fmt: skip


def main() -> None:
    """Measure what is missing in the figures."""
    measure(RECIPES, FIGURES, str(__doc__))


def measure(recipes: Sequence[Recipe], figures: Path, description: str) -> None:
    """What a command line asks for: the figures of these recipes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=figures)
    args = parser.parse_args()
    notebook, model = Notebook(args.output), example.efficientnet_lite0()
    training, test = (
        example.photos(names, crops, seed=seed).inputs
        for names, crops, seed in (
            (example.TRAIN_PHOTOS, CALIBRATION_CROPS, 1),
            (example.TEST_PHOTOS, example.TEST_CROPS, 2),
        )
    )
    scores = model.predict(test)
    with tempfile.TemporaryDirectory(prefix="edgekit-agreement-") as folder:
        source = export_source(model, Path(folder))
        for recipe in recipes:
            notebook.once(recipe.name, partial(judge, source, recipe, training, test, scores))


def judge(
    source: Source,
    recipe: Recipe,
    training: Mapping[str, Array],
    test: Mapping[str, Array],
    scores: Mapping[str, Array],
) -> dict[str, Any]:
    """Bytes, SNR and cosine to Keras, and the fraction of crops whose class is the one that Keras names."""
    converter = find_converter(recipe.format)
    if recipe.settings:
        converter = converter.with_options(recipe.settings, where="recipe")
    output = source.work / f"made{converter.suffix}"
    artifact = converter.convert(
        source, precision=recipe.precision, calibration=spread(training, recipe.samples), output=output
    )
    outputs = run_file(describe(output, recipe.format), test, label=recipe.name)
    clear = is_sure(*scores.values())
    parity = compare_outputs(scores, outputs)
    sure = compare_outputs(*({name: array[clear] for name, array in each.items()} for each in (scores, outputs)))
    return {
        "agreement": parity.top1_agreement,
        "agreement_where_sure": sure.top1_agreement,
        "sure": int(np.sum(clear)),
        "snr_db": parity.snr_db and round(parity.snr_db, 1),
        "cosine": parity.cosine and round(parity.cosine, 6),
        "bytes": output.stat().st_size,
        "float_layers": len(artifact.float_layers),
        "notes": list(artifact.notes),
    }


def is_sure(logits: Array) -> Array:
    """Whether the largest softmax of each row is at least SURE, shape (n,) bool."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(1 / powers.sum(axis=-1) >= SURE)


def spread(inputs: Mapping[str, Array], count: int) -> dict[str, Array]:
    """So many samples, evenly from all photos."""
    return {name: array[np.linspace(0, len(array) - 1, count).astype(int)] for name, array in inputs.items()}


if __name__ == "__main__":
    main()
