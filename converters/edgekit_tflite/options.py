"""What a user may say about a TFLite conversion beyond its precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import ConfigError, did_you_mean

STATIC = ("int8", "int8-float-io", "int16x8")  # activations in integers too, by ranges
ACTIVATION_BITS = {"int8": 8, "int8-float-io": 8, "int16x8": 16}
DYNAMIC = ("dynamic-int8", "int4-weights")  # integer weights, activations quantized while the model runs
LAYER_PRECISIONS = ("fp32", "fp16", "dynamic-int8", "int8", "int16x8", "int4-weights")
ALGORITHMS = ("min-max", "mse", "octav", "gptq", "hadamard")
DYNAMIC_ALGORITHMS = ("hadamard",)  # which litert-quantizer has for float activations alone
METHODS = ("min-max", "moving-average", "percentile", "mse")
AUTO = "auto"  # the one of them that measures best on samples held apart
CALIBRATIONS = (*METHODS, AUTO)
OFF, ON = "off", "on"
EQUALIZATIONS = (OFF, ON, AUTO)
BLOCK_SIZES = (32, 64, 128, 256)
_OF_EVERY_PRECISION = ("dynamic_batch",)


@dataclass(frozen=True)
class TFLiteOptions:
    """Settings of the integer variants; fp32 and fp16 are made without them, but for `dynamic_batch`.

    `ops`, `layers` and `keep_float` settle each operator in that order, and the last pattern that matches it counts.
    Patterns are the shell's (`block_*`). Weights are always quantized per output channel, or per block. Raises
    ConfigError.
    """

    keep_float: tuple[str, ...] = ()  # patterns of layers that stay in float32
    layers: Mapping[str, str] = field(default_factory=dict)  # pattern of layer names -> precision
    ops: Mapping[str, str] = field(default_factory=dict)  # pattern of operator types ("CONV_2D") -> precision
    algorithm: str = "min-max"  # how weights are rounded; one of ALGORITHMS
    calibration: str = "min-max"  # how ranges of activations are chosen; one of CALIBRATIONS
    percentile: float | None = None  # of the values that lie in range, for calibration "percentile"; None: 99.99
    bias_correction: bool = True  # whether calibration takes the mean error of rounded weights off the biases
    equalization: str = OFF  # whether channels between layers are made alike first: one of EQUALIZATIONS
    block_size: int | None = None  # int4 weights share a scale in blocks of this many; None: per output channel
    weight_only: bool = False  # integer weights are made floats where they are used, and activations stay float
    dynamic_batch: bool = False  # whether inputs can be resized to any batch; the file opens at batch 1 all the same

    def __post_init__(self) -> None:
        for name, table in (("layers", self.layers), ("ops", self.ops)):
            for pattern, precision in table.items():
                _known(f"{name}.{pattern}", precision, LAYER_PRECISIONS)
        _known("algorithm", self.algorithm, ALGORITHMS)
        _known("calibration", self.calibration, CALIBRATIONS)
        _known("equalization", self.equalization, EQUALIZATIONS)
        if self.percentile is not None:
            if self.calibration != "percentile":
                raise ConfigError(f'percentile needs calibration = "percentile", got "{self.calibration}"')
            if not 50 < self.percentile <= 100:
                raise ConfigError(f"percentile is {self.percentile:g}, expected more than 50 and at most 100")
        if self.block_size is not None:
            _check_block_size(self.block_size, self.algorithm)

    @property
    def mixed(self) -> tuple[str, ...]:
        """The names of the settings that give single operators a precision of their own."""
        return tuple(name for name in ("keep_float", "layers", "ops") if getattr(self, name))

    def settings(self) -> tuple[str, ...]:
        """The names of all settings of integers that are not at their default."""
        default = TFLiteOptions()
        names = (name for name in vars(self) if name not in _OF_EVERY_PRECISION)
        return tuple(name for name in names if getattr(self, name) != getattr(default, name))

    def needs_calibration(self, precision: str) -> bool:
        """Whether a variant of `precision` measures anything on calibration samples."""
        if precision not in (*STATIC, *DYNAMIC):
            return False
        words = (precision, *self.layers.values(), *self.ops.values())
        learns = self.algorithm == "gptq" or self.equalization != OFF
        return learns or any(word in STATIC for word in words)

    @property
    def chooses(self) -> bool:
        """Whether something is chosen by samples held apart."""
        return AUTO in (self.calibration, self.equalization)


def _known(key: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise ConfigError(f"{key} is '{word}'{did_you_mean(word, known)}")


def _check_block_size(size: int, algorithm: str) -> None:
    if size not in BLOCK_SIZES:
        raise ConfigError(f"block_size is {size}, expected {', '.join(map(str, BLOCK_SIZES))}")
    if algorithm == "mse":
        raise ConfigError("algorithm 'mse' has no blocks: leave block_size out, or take 'octav' or 'gptq'")
