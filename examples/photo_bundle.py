"""EfficientNet-Lite0 with its ImageNet weights as a bundle that takes photos.

    python examples/photo_bundle.py [-o out/photos]
    edgekit run out/photos/efficientnet-lite0-1.0.0.edgekit --input cat.jpg

What the model saw in training is declared: the middle of the photo, 87.5 % of its shorter side, resized with a cubic
filter to 224, (pixel - 127) / 128. The package that carries the weights carries no names of the 1,000 classes, so they
are numbers: 281 to 285 are cats. The photos have no labels: `top1` in the report is agreement with the original.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgekit
from edgekit.data import Data
from edgekit.loading import LoadedModel
from edgekit.progress import LoggedProgress
from edgekit.tensors import Array
from examples.efficientnet_lite0 import TEST_PHOTOS, TRAIN_PHOTOS, efficientnet_lite0, photos

BUNDLE = "efficientnet-lite0-1.0.0.edgekit"
PREPROCESSING = {
    "image": {
        "picture": {
            "resize": [256, 256],
            "fit": "crop",
            "interpolation": "bicubic",
            "antialias": True,
            "center_crop": [224, 224],
            "mean": [127],
            "std": [128],
        }
    }
}
CROPS = 8  # of each photo


def main() -> None:
    """Build it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/photos"))
    print(build_photo_bundle(parser.parse_args().output))


def build_photo_bundle(folder: Path) -> Path:
    """Write the bundle with the variants of `local` into `folder`; its path."""
    model = efficientnet_lite0()
    calibration, evaluation = photos(TRAIN_PHOTOS, CROPS, seed=1), photos(TEST_PHOTOS, CROPS, seed=2)
    return edgekit.build(
        model,
        targets={"local": ("int8", "fp32")},
        calibration=dict(calibration.inputs),
        evaluation=_labelled(model, evaluation),
        output=folder / BUNDLE,
        preprocessing=PREPROCESSING,
        progress=LoggedProgress(),
    ).bundle


def _labelled(model: LoadedModel, data: Data) -> dict[str, Array]:
    (scores,) = model.predict(data.inputs).values()
    return {**data.inputs, "y": scores.argmax(axis=-1)}


if __name__ == "__main__":
    main()
