"""Any Keras model in, a `LoadedModel` out: a Keras 3 model and its facts.

This version reads Keras 3's `.keras` files and live Keras 3 models.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any  # Any: a keras.Model; keras has no types

from edgekit.errors import DataError, ModelError, OutputError
from edgekit.files import atomic, sha256_file
from edgekit.kerases import import_keras as import_keras  # for whoever works on a loaded model
from edgekit.layers import keras_layers
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec

FACTS_MEMBER = "edgekit.json"  # our own member in a .keras file; Keras ignores it
CODE_LAYERS = ("Lambda", "TFSMLayer")

Range = tuple[float, float]


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
    compiled_loss: Any = None  # the loss that the model was compiled with
    origin: Origin | None = None  # None for a model that was not compressed
    file_sha256: str | None = None  # of the file that it was loaded from

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
        size = self.outputs[0].shape[-1] if len(self.outputs) == 1 else None
        return None if size is None or size < 2 else size

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights of all kernels and embeddings."""
        tables = [table for table in self.model.get_weights() if table.ndim >= 2]
        zeros = sum(int((table == 0).sum()) for table in tables)
        return zeros / max(1, sum(int(table.size) for table in tables))

    def sha256(self) -> str:
        """Hex sha256 of the file that it was loaded from; of a live model's layers and weights otherwise."""
        if self.file_sha256 is not None:
            return self.file_sha256
        digest = hashlib.sha256(self.model.to_json().encode())
        for weight in self.model.get_weights():
            digest.update(weight.tobytes())
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

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs by name; arrays have shape (n, ...)."""
        outputs = self.model.predict(self.pack(columns), batch_size=256, verbose=0)
        flat = import_keras().tree.flatten(outputs)
        return {spec.name: array for spec, array in zip(self.outputs, flat, strict=True)}

    def with_model(self, model: Any) -> LoadedModel:
        """The same facts around another Keras model with the same inputs and outputs; trained ranges are dropped."""
        return replace(self, model=model, activation_ranges=None, weight_bits=None, file_sha256=None)

    def with_notes(self, notes: Iterable[Note]) -> LoadedModel:
        """The same model with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def load(source: object, *, allow_code: bool = False) -> LoadedModel:
    """Load a model: a path to a Keras 3 `.keras` file, a live Keras 3 model, or a LoadedModel (returned as it is).

    A file that carries code (Lambda, TFSMLayer) is refused unless `allow_code`. Raises ModelError.
    """
    if isinstance(source, LoadedModel):
        return source
    if isinstance(source, str | Path):
        return _load_file(Path(source), allow_code)
    return describe(source)


def describe(model: Any, activation_ranges: Mapping[str, Range] | None = None) -> LoadedModel:
    """A LoadedModel around a live, built Keras 3 model. Raises ModelError when it is not one."""
    keras = import_keras()
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise ModelError(f"expected a Keras 3 model or a .keras path, got {kind}; a tf_keras model is not read yet")
    functional = _functional(keras, model)
    inputs = tuple(_spec(tensor.name, tensor) for tensor in functional.inputs)
    outputs = tuple(
        _spec(name, tensor) for name, tensor in zip(_unique(functional.output_names), functional.outputs, strict=True)
    )
    return LoadedModel(functional, inputs, outputs, activation_ranges)


def _load_file(path: Path, allow_code: bool) -> LoadedModel:
    config, facts = _read_archive(path)
    if not allow_code:
        _refuse_code(config, path)
    keras = import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as problem:  # keras raises whatever its layers raise
        raise ModelError(_reason(problem, config, path)) from problem
    return _with_facts(describe(model), facts, path)


def _with_facts(loaded: LoadedModel, facts: dict[str, Any], path: Path) -> LoadedModel:
    read = parse(_Facts, facts, where=f"{path}: {FACTS_MEMBER}", error=ModelError)
    origin = None if read.origin is None else Origin(**vars(read.origin))
    return replace(
        loaded,
        activation_ranges=read.activation_ranges,
        weight_bits=read.weight_bits,
        notes=read.notes,
        origin=origin,
        file_sha256=sha256_file(path),
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


def _read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`config.json` and our own facts."""
    if not path.exists():
        raise ModelError(f"no model file {path}")
    if path.is_dir() or path.suffix in (".h5", ".hdf5", ".pb"):
        raise ModelError(f"{path}: this version reads Keras 3's .keras files; open it in Keras and save it as .keras")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise ModelError(f"{path}: member '{broken}' is damaged; copy or save the file again")
            config = json.loads(archive.read("config.json"))
            facts = json.loads(archive.read(FACTS_MEMBER)) if FACTS_MEMBER in archive.namelist() else {}
    except OSError as problem:
        raise ModelError(f"cannot read {path}: {problem.strerror or problem}") from problem
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, ValueError) as problem:
        raise ModelError(f"{path}: not a Keras 3 .keras file, or cut short ({problem})") from problem
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not a Keras 3 .keras file (its config.json is not an object)")
    return config, facts


def _refuse_code(config: dict[str, Any], path: Path) -> None:
    for class_name, name, _ in _layers_of(config):
        if class_name in CODE_LAYERS:
            raise ModelError(
                f"{path}: layer '{name}' ({class_name}) can run code when it is loaded; "
                "replace it, or pass --allow-code if you trust the file"
            )


def _layers_of(node: object) -> Iterator[tuple[str, str, bool]]:
    """(class name, layer name, whether the class is Keras's own) of every serialized object."""
    if isinstance(node, dict):
        if "class_name" in node:
            config = node.get("config")
            name = str(config.get("name", "?") if isinstance(config, dict) else "?")
            yield str(node["class_name"]), name, str(node.get("module")).startswith("keras")
        for value in node.values():
            yield from _layers_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from _layers_of(value)


def _reason(problem: Exception, config: dict[str, Any], path: Path) -> str:
    """One line out of Keras's many; a layer class that Keras does not know is named with its layer."""
    text = str(problem)
    for class_name, name, known in _layers_of(config):
        if f"'{class_name}'" in text and not known:
            return (
                f"{path}: unsupported layer '{name}' of type {class_name}: Keras does not know the class; "
                "load it with keras.saving.register_keras_serializable and pass the live model to edgekit"
            )
    return f"{path}: Keras cannot load it: {' '.join(str(problem).split())[:300]}"


def _functional(keras: Any, model: Any) -> Any:
    """A Functional view that shares the model's weights but not its compile state."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise ModelError(f"model '{model.name}' is not built; give its first layer an Input")
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ModelError(
            f"model '{model.name}' is a subclass of keras.Model ({type(model).__name__}) without a layer graph; "
            "rebuild it as Functional or Sequential"
        )
    if isinstance(model, keras.Sequential):  # which has no `input` until it is called
        return keras.Model(model.inputs[0], model.outputs[0], name=_scope_name(model.name))
    return keras.Model(model.input, model.output, name=_scope_name(model.name))


def _scope_name(name: str) -> str:
    """A model's name as TensorFlow takes it for a scope."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = (None, *tensor.shape[1:])
    if None in shape[1:]:
        raise ModelError(f"'{name}' has shape {tuple(tensor.shape)}: only the batch dimension may be dynamic yet")
    return TensorSpec(name, shape, str(tensor.dtype))


def _unique(names: list[str]) -> list[str]:
    """Two outputs of one layer share its name: number the later ones."""
    return [name if names.index(name) == index else f"{name}_{index}" for index, name in enumerate(names)]


def need_classes(loaded: LoadedModel, *, why: str) -> int:
    """The number of classes. Raises DataError when the model is not a classifier with one output."""
    if loaded.classes is None or len(loaded.outputs[0].shape) != 2:
        shown = ", ".join(map(str, loaded.outputs))
        raise DataError(f"{why}: needs a classifier with one output of shape (batch, 2 or more classes), got {shown}")
    return loaded.classes
