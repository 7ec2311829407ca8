"""Any Keras model in, a `LoadedModel` out: a Keras 3 model and its facts."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol  # Any: a keras.Model; keras has no types

from edgekit.architectures import as_functional, build_architecture, is_tf_keras_model, load_weights
from edgekit.bridge.from_tf_keras import Read, read_tf_keras
from edgekit.compiled import readable_loss, serialized_loss
from edgekit.errors import ConfigError, DataError, ModelError, OutputError
from edgekit.files import atomic, sha256_file
from edgekit.kerases import import_keras as import_keras  # for whoever works on a loaded model
from edgekit.language import TOKENS, build_pretrained, check_length, is_pretrained, open_pretrained
from edgekit.language.registration import register_layers
from edgekit.layers import keras_layers
from edgekit.lengths import Lengths, Shapes, at_shapes, parse_lengths, way_out
from edgekit.model_files import read_member, refusal
from edgekit.opening_files import open_file, wrapper_notes
from edgekit.sequences import in_rows, outputs_of, states_before
from edgekit.states import states_of
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec, class_count
from edgekit.wording import said

FACTS_MEMBER = "edgekit.json"  # our own member in a .keras file; Keras ignores it

Range = tuple[float, float]


class FloatModel(Protocol):
    """What a build needs of the model that everything is made from and held to: a Keras model, or a converted file."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Their batch is None."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Their batch is None."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights."""
        ...

    @property
    def classes(self) -> int | None:
        """Number of class scores that the only output holds; None when it holds none."""
        ...

    @property
    def sparsity(self) -> float | None:
        """Fraction of zeros among the weights of kernels; None for what cannot be compressed."""
        ...

    @property
    def origin(self) -> Origin | None:
        """What it was compressed from; None for a model as the user brought it."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether a sample is a sequence of steps, from the beginning of its state."""
        ...

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; arrays have shape (n, ...), of sequences (n, steps, ...)."""
        ...

    def sha256(self) -> str:
        """Hex sha256 of what it was read from."""
        ...


@dataclass(frozen=True)
class Origin:
    """The model that the user brought, and what was done to it."""

    parameters: int
    sha256: str
    recipe: tuple[Mapping[str, object], ...]  # the steps, as in a project file
    model: LoadedModel | None = None  # None when the compressed model came from a file


@dataclass(frozen=True)
class Note:
    """What a step left as it was, or wants known, and why."""

    step: str  # the step's TOML name; "load" for what loading found
    layer: str  # "" when it is about the whole model
    text: str

    def __str__(self) -> str:
        return f"{self.step}: {self.layer + ': ' if self.layer else ''}{self.text}"


@dataclass(frozen=True)
class LoadedModel:
    """A Keras 3 Functional model, its inputs and outputs, and what compression learned about it."""

    model: Any  # keras.Model, always Functional
    inputs: tuple[TensorSpec, ...]  # batch is None
    outputs: tuple[TensorSpec, ...]
    # After quantization-aware training: the trained (min, max) of each fake-quantized activation, keyed by the name of
    # the layer that makes it. Kernels lie on their integer grids already, so their scales need no keeping.
    activation_ranges: Mapping[str, Range] | None = None
    weight_bits: Mapping[str, int] | None = None  # by layer name, beside activation_ranges: where a grid is not 8 bits
    notes: tuple[Note, ...] = ()  # in the order of the steps
    compiled_loss: Any = None  # as `compile` took it; from a file, only a loss of Keras's own
    origin: Origin | None = None  # None for a model that was not compressed
    file_sha256: str | None = None  # of the file that it was loaded from
    other_shapes: tuple[Shapes, ...] = ()  # beside that of `inputs`, of inputs that the user gave several lengths

    @property
    def name(self) -> str:
        """The Keras model's name."""
        return str(self.model.name)

    @property
    def parameters(self) -> int:
        """Number of weights, trainable or not."""
        return int(self.model.count_params())

    @property
    def classes(self) -> int | None:
        """Number of class scores that the only output holds; None when it holds none."""
        return class_count(self.outputs)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights of all kernels and embeddings."""
        zeros = size = 0
        for weight in self.model.weights:  # one at a time, as in sha256
            if len(weight.shape) >= 2:
                table = weight.numpy()
                zeros, size = zeros + int((table == 0).sum()), size + int(table.size)
        return zeros / max(1, size)

    def sha256(self) -> str:
        """Hex sha256 of the file that it was loaded from; of a live model's layers and weights otherwise.

        Raises ModelError for a layer that cannot tell its config.
        """
        if self.file_sha256 is not None:
            return self.file_sha256
        _check_configs(self.model)
        digest = hashlib.sha256(self.model.to_json().encode())
        for weight in self.model.weights:  # one at a time: their copies together would be as large as the model
            digest.update(weight.numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a `.keras` file, whole or not at all; plain Keras 3 opens it, and edgekit finds trained ranges in it.

        Raises OutputError when the file cannot be written.
        """
        target = Path(path)
        if target.suffix != ".keras":
            raise OutputError(f"cannot save a model as {target}: the name must end in .keras")
        with atomic(target) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(FACTS_MEMBER, json.dumps(self._facts()))

    def _facts(self) -> dict[str, object]:
        origin = self.origin
        kept = origin and {"parameters": origin.parameters, "sha256": origin.sha256, "recipe": origin.recipe}
        return {
            "activation_ranges": self.activation_ranges,
            "weight_bits": self.weight_bits,
            "notes": [asdict(note) for note in self.notes],
            "origin": kept,
            "compiled_loss": serialized_loss(self.compiled_loss),
            "other_shapes": [asdict(shapes) for shapes in self.other_shapes],
        }

    def summary(self) -> str:
        """One line for each layer with weights: name, type, weights, sparsity; then what the steps noted."""
        rows = [f"{self.name}: {self.parameters:,} parameters"]
        for layer in keras_layers(self.model):
            if layer.sparsity is not None:
                rows.append(f"  {layer.name} ({layer.type}): {layer.bytes // 4:,} weights, {layer.sparsity:.0%} zero")
        rows.extend(f"  {note}" for note in self.notes)
        return "\n".join(rows)

    def pack(self, columns: Mapping[str, Any]) -> Any:
        """Arrays or tensors by input name, in the structure that the Keras model is called with."""
        ordered = [columns[spec.name] for spec in self.inputs]
        return import_keras().tree.pack_sequence_as(self.model._inputs_struct, ordered)

    @property
    def stateful(self) -> bool:
        """Whether a sample is a sequence of steps, from the beginning of its state."""
        return bool(states_of(self.model))

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs by name; arrays have shape (n, ...), of sequences (n, steps, ...)."""
        if self.stateful:
            flat = outputs_of(self.model, self.pack, columns)
        else:
            outputs = self.model.predict(self.pack(columns), batch_size=256, verbose=0)
            flat = import_keras().tree.flatten(outputs)
        return {spec.name: array for spec, array in zip(self.outputs, flat, strict=True)}

    def single_steps(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Each step of sequences as a sample of its own, (n * steps, ...), with the states that it began with.

        It is what a file takes that is handed its states, under the names that they have there.
        """
        return in_rows({**columns, **states_before(self.model, self.pack, columns)})

    def with_model(self, model: Any) -> LoadedModel:
        """The same facts around another Keras model with the same inputs and outputs; trained ranges are dropped."""
        return replace(self, model=model, activation_ranges=None, weight_bits=None, file_sha256=None)

    def with_notes(self, notes: Iterable[Note]) -> LoadedModel:
        """The same model with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def _check_configs(model: Any) -> None:
    for layer in reversed(list(model._flatten_layers(include_self=False))):  # the innermost is named
        try:
            layer.get_config()
        except Exception as problem:  # the class is the user's
            raise ModelError(
                f"layer '{layer.name}' ({type(layer).__name__}) cannot tell its config ({said(problem)}); "
                "its class needs a get_config with every argument of its __init__"
            ) from problem


def load(
    source: object,
    *,
    architecture: str | Callable[[], Any] | None = None,
    allow_code: bool = False,
    trusted: bool = False,
    lengths: Lengths | None = None,
) -> LoadedModel:
    """Load a model: a file, a live model of Keras 3 or tf_keras, or a LoadedModel (returned as it is).

    Files: `.keras` and `.h5` of Keras 3 and of tf_keras, a SavedModel folder that tf_keras wrote, a language model (a
    folder of config.json and safetensors, or a `.gguf`), and a file of weights together with `architecture`, a function
    (or "module:function") that builds the model. TFMOT's wrappers are taken off. A file that carries code is refused
    unless `allow_code`. Files are opened in a process of their own first, unless they are `trusted` because edgekit
    wrote them itself. `lengths` fix what inputs leave open beside the batch: {"tokens": 128}, {"image": "224x320"}; of
    several for each input, the first is the model's, and a `.tflite` has a signature for each. Raises ModelError, and
    ConfigError for lengths that do not fit.
    """
    if isinstance(source, LoadedModel):
        if lengths:
            raise ConfigError("lengths: the model is loaded already: give them to the `load` that loads it")
        return source
    if not isinstance(source, str | Path):
        return describe(source, lengths=lengths)
    if architecture is not None:
        return _load_weights(Path(source), architecture, lengths)
    return _load_file(Path(source), allow_code, trusted, lengths)


def describe(
    model: Any,
    activation_ranges: Mapping[str, Range] | None = None,
    lengths: Lengths | None = None,
    *,
    keep: bool = True,
) -> LoadedModel:
    """A LoadedModel around a live, built model of Keras 3 or tf_keras; `lengths` are those of `load`.

    With lengths, the model's weights are copied unless nobody needs to `keep` it as it was.
    Raises ModelError when it is not one, ConfigError for lengths that do not fit.
    """
    keras = import_keras()
    if is_tf_keras_model(model):
        return _bridged(read_tf_keras(model), lengths)
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise ModelError(f"expected a Keras model or a path to a model file, got {kind}")
    functional = as_functional(model)
    shapes = parse_lengths(functional.inputs, lengths or {})
    if shapes:
        functional = at_shapes(functional, shapes[0], keep=keep)
    inputs = tuple(_spec(tensor.name, tensor, way_out(tensor.name, tensor.shape)) for tensor in functional.inputs)
    outputs = tuple(
        _spec(name, tensor, "no size of an output may depend on values")
        for name, tensor in zip(unique_names(functional.output_names), functional.outputs, strict=True)
    )
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    return LoadedModel(functional, inputs, outputs, activation_ranges, compiled_loss=loss, other_shapes=shapes[1:])


def _bridged(read: Read, lengths: Lengths | None) -> LoadedModel:
    notes = wrapper_notes(read.wrapped, read.unmapped)
    described = describe(read.model, read.ranges, lengths, keep=False)
    return replace(described, notes=tuple(Note("load", "", text) for text in notes))


def _load_file(path: Path, allow_code: bool, trusted: bool, lengths: Lengths | None) -> LoadedModel:
    if is_pretrained(path):
        return _load_pretrained(path, lengths)
    with tempfile.TemporaryDirectory(prefix="edgekit-load-") as folder:
        opened = open_file(path, Path(folder, "bridged.keras"), allow_code=allow_code, trusted=trusted)
        import_keras()
        register_layers(read_member(opened.path, "config.json"))
        try:
            model = import_keras().saving.load_model(opened.path, compile=False, safe_mode=not allow_code)
        except Exception as problem:  # keras raises whatever its layers raise
            raise refusal(problem, read_member(opened.path, "config.json"), path) from problem
        facts = read_member(opened.path, FACTS_MEMBER) or {}
    found = _bridged(Read(model, opened.wrapped, opened.ranges, opened.unmapped), lengths)
    found = replace(found, compiled_loss=readable_loss(opened.loss), file_sha256=sha256_file(path))
    return _with_facts(found, facts, path) if facts else found


def _load_pretrained(path: Path, lengths: Lengths | None) -> LoadedModel:
    folder = open_pretrained(path)  # neither can run code, and shapes are checked before allocation
    model = build_pretrained(folder)
    loaded = describe(model, lengths=lengths, keep=False)
    for shape in (loaded.inputs[0].shape[1:], *(each.shapes[TOKENS] for each in loaded.other_shapes)):
        check_length(folder, shape[0] or 0)
    return replace(loaded, file_sha256=folder.sha256())


def _load_weights(path: Path, architecture: str | Callable[[], Any], lengths: Lengths | None) -> LoadedModel:
    model = build_architecture(architecture)
    load_weights(model, path)
    return replace(describe(model, lengths=lengths), file_sha256=sha256_file(path))


def _with_facts(loaded: LoadedModel, facts: dict[str, Any], path: Path) -> LoadedModel:
    read = parse(_Facts, facts, where=f"{path}: {FACTS_MEMBER}", error=ModelError)
    origin = None if read.origin is None else Origin(**vars(read.origin))
    return replace(
        loaded,
        activation_ranges=read.activation_ranges,
        weight_bits=read.weight_bits,
        notes=read.notes,
        origin=origin,
        compiled_loss=readable_loss(read.compiled_loss),
        other_shapes=read.other_shapes or loaded.other_shapes,
    )


@dataclass(frozen=True)
class _OriginFacts:
    parameters: int
    sha256: str
    recipe: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class _Facts:
    """`edgekit.json` in a `.keras` file."""

    activation_ranges: Mapping[str, Range] | None = None
    weight_bits: Mapping[str, int] | None = None
    notes: tuple[Note, ...] = ()
    origin: _OriginFacts | None = None
    compiled_loss: Any = None
    other_shapes: tuple[Shapes, ...] = ()


def _spec(name: str, tensor: Any, remedy: str) -> TensorSpec:
    shape = (None, *tensor.shape[1:])
    if None in shape[1:]:
        raise ModelError(f"'{name}' has shape {tuple(tensor.shape)}, which leaves more open than the batch: {remedy}")
    return TensorSpec(name, shape, str(tensor.dtype))


def unique_names(names: Sequence[str]) -> list[str]:
    """Two outputs of one layer share its name: number the later ones."""
    return [name if names.index(name) == index else f"{name}_{index}" for index, name in enumerate(names)]


def need_classes(loaded: FloatModel, *, why: str) -> int:
    """The number of classes. Raises DataError when the model is not a classifier with one output."""
    if loaded.classes is None or len(loaded.outputs[0].shape) != 2:
        shown = ", ".join(map(str, loaded.outputs))
        raise DataError(f"{why}: needs a classifier with one output of shape (batch, 2 or more classes), got {shown}")
    return loaded.classes
