"""The steps: frozen values that check themselves. Their type selects the work (`apply.py`).

`layers` in a step gives settings for single layers: name patterns (as in a shell: `block_*`) lead to some of the step's
own settings, or to "skip"; where several patterns match, the last one counts (`selection.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal  # Any: a keras.Model as the student

from edgekit.compression import checks
from edgekit.errors import ConfigError, did_you_mean
from edgekit.strict import parse

Engine = Literal["keras", "tfmot"]
Importance = Literal["magnitude", "gradient", "taylor", "random"]
Norm = Literal["l1", "l2"]
LayerSettings = Mapping[str, object]  # pattern -> "skip", or a mapping of settings

_IMPORTANCES = ("magnitude", "gradient", "taylor", "random")
_PATTERN = re.compile(r"unstructured|(\d+):(\d+)|(\d+)x(\d+)")


@dataclass(frozen=True)
class Distill:
    """Train a smaller student to imitate the model (Hinton et al. 2015, "Distilling the Knowledge …").

    The student is a model of its own, or is made from the teacher: narrower (`width` times its channels, fresh weights)
    and shallower (`depth` times its repeated blocks, and without the layers that `drop` names; what stays keeps the
    teacher's weights unless it is narrowed). Without labels the teacher's outputs alone are learned. A causal decoder
    needs none: at every place, the next token is its label.
    """

    width: float | None = None  # fraction of channels and units kept, the last layer's excepted
    student: str | Path | Any | None = None  # a model file or a Keras 3 model with the same inputs and outputs
    depth: float | None = None  # fraction of the repeated blocks kept
    drop: tuple[str, ...] = ()  # name patterns of layers left out: those whose output has their input's shape
    epochs: int = 20  # in a few epochs the labels alone teach a student more
    temperature: float = 2.0  # softens both distributions
    weight: float = 0.9  # of the teacher's outputs; the true labels weigh 1 - weight
    objective: Literal["soft-targets", "logits-mse"] = "soft-targets"
    # teacher layer -> student layer: their outputs should match, or their attention maps (Zagoruyko & Komodakis 2017)
    features: Mapping[str, str] = field(default_factory=dict)
    attention: Mapping[str, str] = field(default_factory=dict)
    feature_weight: float = 1.0
    pad_token: int | None = (
        None  # of a causal decoder: the number that stands for nothing, which nobody has to foretell
    )
    learning_rate: float | None = None  # at the start; cosine decay to zero; None: 1e-2, 1e-3 if weights are kept
    batch_size: int = 64

    def __post_init__(self) -> None:
        made = self.width is not None or self.depth is not None or bool(self.drop)
        if made == (self.student is not None):
            raise ConfigError("Distill needs either a student, or width, depth or drop to make one; give one of them")
        for name, value in (("width", self.width), ("depth", self.depth)):
            if value is not None:
                checks.fraction(f"Distill.{name}", value)
        checks.choice("Distill.objective", self.objective, ("soft-targets", "logits-mse"))
        checks.fraction("Distill.weight", self.weight, zero=True, one=True)
        checks.positive("Distill.temperature", self.temperature)
        checks.positive("Distill.feature_weight", self.feature_weight)
        if self.pad_token is not None:
            checks.whole("Distill.pad_token", self.pad_token, least=0)
        checks.training("Distill", self.epochs, self.starting_rate, self.batch_size, least_epochs=1)

    @property
    def starting_rate(self) -> float:
        """The learning rate at the start: a student that keeps its teacher's weights must not lose them."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-2 if self.width is not None or self.student is not None else 1e-3


@dataclass(frozen=True)
class Prune:
    """Set the least important weights of each kernel to zero while fine-tuning (Zhu & Gupta 2017).

    Biases, normalization and depthwise kernels are left alone. `schedule`: "polynomial" lets the sparsity rise along a
    cubic curve during the first 60 % of the training, "constant" demands it from the start and chooses anew on the way,
    "one-shot" chooses once, before training. `pattern`: "unstructured"; "N:M" keeps N of each M weights along the
    reduction axis ("2:4" is what sparse tensor cores take); "RxC" removes blocks of R inputs by C outputs.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("sparsity", "pattern")
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ()

    sparsity: float | None = None  # fraction of the weights that become zero; given by the pattern for N:M
    epochs: int = 3  # 0 prunes without training
    schedule: Literal["polynomial", "constant", "one-shot"] = "polynomial"
    importance: Importance = "magnitude"
    norm: Norm = "l1"  # how the importances of a block add up
    scope: Literal["layer", "global"] = "layer"  # the sparsity of each kernel, or of all kernels together
    pattern: str = "unstructured"
    learning_rate: float = 2e-3
    batch_size: int = 64
    engine: Engine = "keras"  # "tfmot" runs TFMOT on the bridged model
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_pattern()
        checks.choice("Prune.schedule", self.schedule, ("polynomial", "constant", "one-shot"))
        _check_importance("Prune", self.importance, self.norm)
        checks.choice("Prune.scope", self.scope, ("layer", "global"))
        lacking = {
            f"importance '{self.importance}'": self.importance != "magnitude",
            "norm 'l2' of blocks": self.norm == "l2" and self.block != (1, 1),
            "scope 'global'": self.scope == "global",
            "epochs 0": self.epochs == 0,
        }
        _check_engine("Prune", self.engine, lacking)
        checks.training("Prune", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("Prune", self.layers, self.LAYER_SETTINGS)

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """(n, m) of an "N:M" pattern, which keeps n of each m weights."""
        found = _PATTERN.fullmatch(self.pattern)
        return (int(found[1]), int(found[2])) if found and found[1] else None

    @property
    def block(self) -> tuple[int, int]:
        """(inputs, outputs) of a block; (1, 1) when the pattern has none."""
        found = _PATTERN.fullmatch(self.pattern)
        return (int(found[3]), int(found[4])) if found and found[3] else (1, 1)

    @property
    def target(self) -> float:
        """The sparsity that the settings lead to."""
        if self.kept_of is not None:
            return 1 - self.kept_of[0] / self.kept_of[1]
        assert self.sparsity is not None  # __post_init__ saw to it
        return self.sparsity

    def _check_pattern(self) -> None:
        if not isinstance(self.pattern, str) or not _PATTERN.fullmatch(self.pattern):
            raise ConfigError(
                f"Prune.pattern is {self.pattern!r}, expected 'unstructured', 'N:M' such as '2:4', or 'RxC'"
            )
        if min(self.block) < 1:
            raise ConfigError(f"Prune.pattern is '{self.pattern}': a block has at least one row and one column")
        if self.kept_of is None:
            if self.sparsity is None:
                raise ConfigError("Prune.sparsity is missing; only a pattern such as '2:4' brings its own")
            checks.fraction("Prune.sparsity", self.sparsity, zero=True)
            return
        kept, of = self.kept_of
        if not 0 < kept < of:
            raise ConfigError(f"Prune.pattern is '{self.pattern}': N of M are kept, so N is between 1 and M - 1")
        if self.sparsity is not None and abs(self.sparsity - self.target) > 1e-9:
            raise ConfigError(f"Prune.sparsity is {self.sparsity:g}, but '{self.pattern}' makes it {self.target:g}")
        if self.scope == "global":
            raise ConfigError(f"Prune.scope is 'global', but '{self.pattern}' is a pattern of each kernel; use 'layer'")


@dataclass(frozen=True)
class PruneChannels:
    """Remove whole filters, neurons and attention heads, so that an ordinary smaller model remains.

    Channels that depend on each other (residual sums, squeeze-excite, concatenations) go together. Importances:
    Li et al. 2017 (magnitude), Molchanov et al. 2019 (Taylor). Exactly one of ratio, max_parameters and max_macs.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("ratio",)
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ("ratio", "max_parameters", "max_macs")

    ratio: float | None = None  # fraction of the channels removed
    epochs: int = 3  # 0 cuts without training
    max_parameters: int | None = None
    max_macs: int | None = None  # multiply-accumulates for one sample
    importance: Importance = "magnitude"
    norm: Norm = "l1"
    scope: Literal["layer", "global"] = "layer"  # the ratio of each group of channels, or of all together
    round_to: int = 8  # channel counts stay multiples of it, where there are that many
    learning_rate: float = 1e-3
    batch_size: int = 64
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.one_of("PruneChannels", {name: getattr(self, name) for name in self.ALTERNATIVES})
        if self.ratio is not None:
            checks.fraction("PruneChannels.ratio", self.ratio)
        _check_budget("PruneChannels.max_parameters", self.max_parameters)
        _check_budget("PruneChannels.max_macs", self.max_macs)
        _check_importance("PruneChannels", self.importance, self.norm)
        checks.choice("PruneChannels.scope", self.scope, ("layer", "global"))
        checks.whole("PruneChannels.round_to", self.round_to, least=1)
        checks.training("PruneChannels", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("PruneChannels", self.layers, self.LAYER_SETTINGS)


@dataclass(frozen=True)
class Cluster:
    """Let the weights of a kernel share few values, its centroids, while fine-tuning them (Han et al. 2016).

    With `preserve_sparsity`, zeros stay zeros, and zero is one of the centroids.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("clusters",)
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ()

    clusters: int = 16  # distinct values in each kernel
    epochs: int = 2  # 0 clusters without training
    initialization: Literal["kmeans++", "linear", "density"] = "kmeans++"
    preserve_sparsity: bool = True
    learning_rate: float = 5e-4
    batch_size: int = 64
    engine: Engine = "keras"
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.whole("Cluster.clusters", self.clusters, least=2)
        checks.choice("Cluster.initialization", self.initialization, ("kmeans++", "linear", "density"))
        few = self.clusters == 2 and self.preserve_sparsity
        _check_engine("Cluster", self.engine, {"clusters 2 with preserve_sparsity": few, "epochs 0": self.epochs == 0})
        checks.training("Cluster", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("Cluster", self.layers, self.LAYER_SETTINGS)


@dataclass(frozen=True)
class Factorize:
    """Replace a kernel by the product of two thin ones, found by SVD, where that has fewer weights.

    Dense and 1×1 convolutions: Sainath et al. 2013; k×k convolutions: Zhang et al. 2016 (spatial, then 1×1);
    embeddings: Lan et al. 2020. Exactly one of energy, rank and max_parameters.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("energy", "rank")
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ("energy", "rank", "max_parameters")

    energy: float | None = None  # fraction of the squared singular values that each factorized kernel keeps
    epochs: int = 0  # fine-tuning afterwards
    rank: int | None = None  # of each factorized kernel
    max_parameters: int | None = None  # of the whole model; the ranks that lose least energy are found
    learning_rate: float = 5e-4
    batch_size: int = 64
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.one_of("Factorize", {name: getattr(self, name) for name in self.ALTERNATIVES})
        if self.energy is not None:
            checks.fraction("Factorize.energy", self.energy, one=True)
        _check_budget("Factorize.rank", self.rank)
        _check_budget("Factorize.max_parameters", self.max_parameters)
        checks.training("Factorize", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("Factorize", self.layers, self.LAYER_SETTINGS)


@dataclass(frozen=True)
class QuantizeAware:
    """Fine-tune with simulated integer arithmetic (Jacob et al. 2018), BatchNormalization folded first.

    Activations are asymmetric per tensor in 8 bits; kernels are symmetric, per channel where the targets take it.
    Zeros and shared values that earlier steps made are kept.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("bits",)
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ()

    epochs: int = 2  # 0 calibrates without training
    bits: Literal[8, 4, 2] = 8  # of the weights
    preserve_sparsity: bool = True
    preserve_clusters: bool = True
    learning_rate: float = 2e-4
    batch_size: int = 64
    engine: Engine = "keras"
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.choice("QuantizeAware.bits", self.bits, (8, 4, 2))
        lacking = {f"bits {self.bits}": self.bits != 8, "epochs 0": self.epochs == 0}
        _check_engine("QuantizeAware", self.engine, lacking)
        checks.training("QuantizeAware", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("QuantizeAware", self.layers, self.LAYER_SETTINGS)


@dataclass(frozen=True)
class QuantizeWeights:
    """Round each kernel to few values, for storage: the file packs well, and no kernel runs faster by it.

    "linear" has 2^bits - 1 even steps, "logarithmic" as many powers of two and zero (Miyashita et al. 2016), "ternary"
    {-a, 0, a} (Li et al. 2016), "binary" sign times mean magnitude (Rastegari et al. 2016). Scales are per output
    channel.
    """

    LAYER_SETTINGS: ClassVar[tuple[str, ...]] = ("scheme", "bits")
    ALTERNATIVES: ClassVar[tuple[str, ...]] = ()

    scheme: Literal["linear", "logarithmic", "ternary", "binary"] = "linear"
    bits: int | None = None  # of linear and logarithmic; 8 unless given
    epochs: int = 0  # fine-tuning through the rounding (straight-through)
    learning_rate: float = 2e-4
    batch_size: int = 64
    layers: LayerSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.choice("QuantizeWeights.scheme", self.scheme, ("linear", "logarithmic", "ternary", "binary"))
        if self.bits is not None and self.scheme in ("ternary", "binary"):
            raise ConfigError(f"QuantizeWeights.bits is {self.bits}, but '{self.scheme}' has its own; leave bits out")
        checks.whole("QuantizeWeights.bits", self.code_bits, least=2)
        if self.code_bits > 8:
            raise ConfigError(f"QuantizeWeights.bits is {self.bits}, expected 2 to 8")
        checks.training("QuantizeWeights", self.epochs, self.learning_rate, self.batch_size)
        checks.layer_settings("QuantizeWeights", self.layers, self.LAYER_SETTINGS)

    @property
    def code_bits(self) -> int:
        """The bits of a linear or logarithmic code."""
        return 8 if self.bits is None else self.bits


Step = Distill | Prune | PruneChannels | Cluster | Factorize | QuantizeAware | QuantizeWeights

STEPS: Mapping[str, type[Step]] = {
    "distill": Distill,
    "prune": Prune,
    "prune-channels": PruneChannels,
    "cluster": Cluster,
    "factorize": Factorize,
    "quantize-aware": QuantizeAware,
    "quantize-weights": QuantizeWeights,
}


def parse_step(table: Mapping[str, object], *, where: str) -> Step:
    """A step from its TOML table: `step` names it, the other keys are its arguments. Raises ConfigError."""
    name = table.get("step")
    if not isinstance(name, str) or name not in STEPS:
        raise ConfigError(f"{where}: unknown step {name!r}{did_you_mean(str(name), STEPS)}")
    arguments = {key: value for key, value in table.items() if key != "step"}
    return parse(STEPS[name], arguments, where=where)


def step_name(step: Step) -> str:
    """The TOML name of a step."""
    return next(name for name, kind in STEPS.items() if isinstance(step, kind))


def step_table(step: Step) -> dict[str, object]:
    """The step as its TOML table; a student model is named."""
    given = {field.name: getattr(step, field.name) for field in fields(step)}
    table = {key: value for key, value in given.items() if value is not None and value not in ((), {})}
    if "student" in table:
        table["student"] = str(getattr(table["student"], "name", table["student"]))
    return {"step": step_name(step), **table}


def _check_importance(step: str, importance: str, norm: str) -> None:
    checks.choice(f"{step}.importance", importance, _IMPORTANCES)
    checks.choice(f"{step}.norm", norm, ("l1", "l2"))


def _check_budget(name: str, value: int | None) -> None:
    if value is not None:
        checks.whole(name, value, least=1)


def _check_engine(step: str, engine: str, lacking: Mapping[str, bool]) -> None:
    """`lacking`: setting -> whether its value is one that TFMOT has nothing for."""
    checks.choice(f"{step}.engine", engine, ("keras", "tfmot"))
    for setting, missing in lacking.items():
        if engine == "tfmot" and missing:
            raise ConfigError(f'{step}.{setting}: TFMOT has nothing of the kind; use engine = "keras"')
