"""`manifest.json`: what a bundle holds and how to feed it. Parsed strictly, written canonically."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import BundleError, ConfigError, did_you_mean
from edgekit.preprocessing.declared import Preprocessing
from edgekit.strict import canonical_json, parse
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Quantization, TensorSpec

FORMAT_VERSION = 1
MANIFEST_MEMBER = "manifest.json"

FORMATS = ("tflite", "onnx", "tensorrt")
PREFILL = "prefill"  # the second function of a language model's files
PRECISIONS = ("fp32", "fp16", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights")


@dataclass(frozen=True)
class Binding:
    """How one model input or output, by its Keras name, appears in a variant's file."""

    name: str  # the Keras name
    tensor: str  # the name in the file, which conversion may have changed
    dtype: str  # numpy dtype that the engine takes or gives
    quantization: Quantization | None = None  # set when dtype is an integer that stands for a real number


@dataclass(frozen=True)
class Member:
    """One file inside the bundle."""

    path: str
    sha256: str  # of the uncompressed bytes, lower-case hex
    bytes: int  # uncompressed


@dataclass(frozen=True)
class StateTensor:
    """One tensor that a stateful file takes and gives back: what came out goes in at the next call, zeros first."""

    taken: Binding
    given: Binding
    shape: tuple[int, ...]  # for one stream, batch 1


@dataclass(frozen=True)
class State:
    """What a variant keeps from call to call.

    It is in these tensors, which are no inputs and outputs of the model; where there are none, in variables of the
    file, which only opening it anew sets back.
    """

    tensors: tuple[StateTensor, ...] = ()


@dataclass(frozen=True)
class Variant:
    """The model in one format and precision."""

    id: str  # "tflite-int8"
    format: str  # one of FORMATS
    precision: str  # one of PRECISIONS
    member: Member
    targets: tuple[str, ...]
    engine: str  # "litert", "onnxruntime"
    engine_least_version: str
    inputs: tuple[Binding, ...]  # in the engine's order
    outputs: tuple[Binding, ...]
    golden_tolerance: float  # largest |difference| from the golden outputs, as a fraction of their largest magnitude
    metrics: Mapping[str, float] = field(default_factory=dict)  # measured on the evaluation data
    float_layers: tuple[str, ...] = ()  # left in float in an integer variant
    notes: tuple[str, ...] = ()
    tensorrt: Recipe | None = None  # how a device with TensorRT builds its engine from ONNX; how an engine was built
    state: State | None = None  # None where calls do not depend on those before

    def __post_init__(self) -> None:
        for word, known in ((self.format, FORMATS), (self.precision, PRECISIONS)):
            if word not in known:
                raise ConfigError(f"variant '{self.id}': unknown '{word}'{did_you_mean(word, known)}")


@dataclass(frozen=True)
class Input:
    """One model input under its Keras name, with the range of its values in the calibration data."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    range: tuple[float, float] | None = None
    preprocessing: Preprocessing | None = None  # from pixels or samples; None: nobody said

    @property
    def spec(self) -> TensorSpec:
        """The input without its range and preprocessing."""
        return TensorSpec(self.name, self.shape, self.dtype)


@dataclass(frozen=True)
class Golden:
    """Real inputs and the float model's outputs, one set for all variants: an .npz of `inputs/NAME`, `outputs/NAME`."""

    member: Member
    samples: int
    steps: int | None = None  # of each sample, which is then a sequence: arrays are (samples, steps, …)


@dataclass(frozen=True)
class TextTolerance:
    """How far a variant may be from the float model on the golden texts."""

    perplexity_rise: float  # most, as a fraction of the float model's perplexity
    token_agreement: float  # least share of the expected tokens that the variant holds for the most likely ones

    def __post_init__(self) -> None:
        if not (self.perplexity_rise >= 0 and 0 <= self.token_agreement <= 1):
            raise ConfigError(
                f"a tolerance has perplexity_rise {self.perplexity_rise} and token_agreement {self.token_agreement}, "
                "expected at least 0, and a share from 0 to 1"
            )


@dataclass(frozen=True)
class Language:
    """What makes a model of language of the variants, whose files go on from token to token.

    Beside the function that all inputs and outputs here are of, which reads one token, each file has one called
    PREFILL, which reads `prefill` tokens at a position that is a multiple of it.
    """

    tokenizer: Member  # a tokenizer.json
    context: int  # tokens that are kept: a prompt and what follows it
    prefill: int
    stop_tokens: tuple[int, ...]  # each ends a text
    cache_bytes: int  # of the keys and values of a whole context
    golden: Member  # texts as tokens, and what the float model makes of them
    tolerances: Mapping[str, TextTolerance]  # by variant

    def __post_init__(self) -> None:
        if self.prefill < 1 or self.context < 1 or self.context % self.prefill:
            raise ConfigError(f"context is {self.context}, expected a multiple of prefill, which is {self.prefill}")
        if any(token < 0 for token in self.stop_tokens) or self.cache_bytes < 0:
            raise ConfigError("stop_tokens and cache_bytes of language hold a number below 0")

    def check(self, variants: tuple[Variant, ...]) -> None:
        """Raise ConfigError unless it speaks of these variants, and all of them go on from token to token."""
        ids = [variant.id for variant in variants]
        if sorted(self.tolerances) != sorted(ids):
            raise ConfigError(f"language has tolerances of {', '.join(self.tolerances)}, expected {', '.join(ids)}")
        for variant in variants:
            if variant.format != "tflite" or variant.state is None or variant.state.tensors:
                raise ConfigError(f"variant '{variant.id}' of a language model keeps no state in a .tflite's variables")


@dataclass(frozen=True)
class Provenance:
    """Where the model came from: enough to build it again."""

    recipe: tuple[Mapping[str, object], ...]
    tools: Mapping[str, str]  # package name -> version
    model_sha256: str
    data_sha256: Mapping[str, str]  # role ("train", "evaluation") -> sha256


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime needs to know, with the sha256 of every other member."""

    format_version: int
    name: str
    version: str
    inputs: tuple[Input, ...]  # original Keras names and order
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    golden: Golden
    provenance: Provenance
    labels: tuple[str, ...] | None = None
    language: Language | None = None  # None where the model is none of language

    def __post_init__(self) -> None:
        if self.language is not None:
            self.language.check(self.variants)

    @property
    def members(self) -> tuple[Member, ...]:
        """Every member but the manifest itself."""
        text = () if self.language is None else (self.language.tokenizer, self.language.golden)
        return (*(variant.member for variant in self.variants), self.golden.member, *text)


def to_bytes(manifest: Manifest) -> bytes:
    """Canonical JSON: equal manifests give equal bytes."""
    content = dataclasses.asdict(manifest)
    optional = [(variant, "state") for variant in content["variants"]]
    for table, key in (*optional, (content["golden"], "steps"), (content, "language")):
        if table[key] is None:  # readers from before read the bundles that have none
            del table[key]
    return canonical_json(content)


def from_bytes(content: bytes, *, where: str) -> Manifest:
    """Parse canonical JSON.

    Raises BundleError on a version this edgekit cannot read, an unknown or missing key, a wrong type, or another form.
    """
    try:
        parsed = json.loads(content)
        canonical = canonical_json(parsed)  # NaN and infinity have none
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where}: {MANIFEST_MEMBER} is not JSON ({problem}); build the bundle again") from problem
    version = parsed.get("format_version") if isinstance(parsed, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: format_version is {version!r}, this edgekit reads {FORMAT_VERSION}; "
            "install the edgekit that made it"
        )
    manifest = parse(Manifest, parsed, where=f"{where}: {MANIFEST_MEMBER}", error=BundleError)
    if canonical != content:  # a key twice, other spaces: two readers could read two things
        raise BundleError(f"{where}: {MANIFEST_MEMBER} is not in canonical form; build the bundle again")
    return manifest
