"""What a user may say about an ONNX conversion beyond its precision."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import ConfigError, did_you_mean

LAYOUTS = ("nhwc", "nchw")
BATCHES = ("dynamic", "static")
OPSETS = (17, 18)  # 17 has what TensorRT's parser wants; tf2onnx writes up to 18
METHODS = ("min-max", "percentile", "entropy", "mse")
AUTO = "auto"  # the one of them that measures best on samples held apart
OF_EXPORT = ("layout", "batch", "opset")
BLOCKS = (16, 32, 64, 128, 256)  # of int4 weights
_OF_INTEGERS = {  # precision -> the settings that mean something for it
    "int8": ("calibration", "percentile", "keep_float", "bias_correction", "smoothing"),
    "dynamic-int8": ("keep_float",),
    "int4-weights": ("keep_float", "block_size"),
}


@dataclass(frozen=True)
class ONNXOptions:
    """Settings of ONNX files; those of ranges are for int8, `keep_float` for all integers. Raises ConfigError.

    Patterns are the shell's (`block_*`). A file with layout "nchw" does not take what the Keras model takes, so it is
    for `edgekit convert` alone: no bundle holds it.
    """

    layout: str = "nhwc"  # of inputs and outputs of rank 4: "nhwc" as in Keras, or "nchw"
    batch: int | str = "dynamic"  # one of BATCHES: a dimension named "batch", or "static": 1
    opset: int = 18  # one of OPSETS
    calibration: str = AUTO  # how ranges of activations are chosen: one of METHODS, or AUTO
    percentile: float | None = None  # of the values in range, for calibration "percentile" and "auto"; None: 99.99
    keep_float: tuple[str, ...] = ()  # patterns of layers that stay in float32
    bias_correction: bool = True  # whether the mean error of rounded weights is taken off the biases
    smoothing: bool = True  # whether outliers of activations move into the weights where that helps
    block_size: int = 32  # of int4 weights, one of BLOCKS: how many have one scale

    def __post_init__(self) -> None:
        _known("layout", self.layout, LAYOUTS)
        if str(self.batch).isdecimal():
            raise ConfigError(
                f"batch is {self.batch}, expected {' or '.join(BATCHES)}: a dynamic file takes {self.batch} samples at "
                "once too; for TensorRT, say them in profiles (docs/jetson.md)"
            )
        _known("batch", str(self.batch), BATCHES)
        _known("calibration", self.calibration, (*METHODS, AUTO))
        if self.opset not in OPSETS:
            raise ConfigError(f"opset is {self.opset}, expected {' or '.join(map(str, OPSETS))}")
        if self.block_size not in BLOCKS:
            raise ConfigError(f"block_size is {self.block_size}, expected one of {', '.join(map(str, BLOCKS))}")
        if self.percentile is not None:
            if self.calibration not in ("percentile", AUTO):
                raise ConfigError(f'percentile needs calibration = "percentile" or "auto", got "{self.calibration}"')
            if not 50 < self.percentile <= 100:
                raise ConfigError(f"percentile is {self.percentile:g}, expected more than 50 and at most 100")

    def settings(self, precision: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of settings of integers that are not at their default: (those of `precision`, those of others)."""
        every = dict.fromkeys(name for names in _OF_INTEGERS.values() for name in names)
        changed = [name for name in every if getattr(self, name) != getattr(ONNXOptions(), name)]
        own = _OF_INTEGERS.get(precision, ())
        return tuple(name for name in changed if name in own), tuple(name for name in changed if name not in own)


def _known(key: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise ConfigError(f"{key} is '{word}'{did_you_mean(word, known)}")
