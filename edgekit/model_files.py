"""What a model file is, and whether it may be opened: nothing here runs code of the file or allocates what it declares.

Keras itself reads a file by its declarations: a link leads to other files, a shape says how much to allocate, a config
names what to run. So all of that is looked at first.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import IO, Any  # Any: JSON, and h5py, which has no types

from edgekit.errors import ModelError
from edgekit.files import UNREADABLE_ZIP
from edgekit.language.folders import is_pretrained
from edgekit.zip_members import open_member

MAX_BYTES = 8 << 30  # of weights that a file may declare
MAX_RATIO = 200  # of what a file declares to its size; weights hardly shrink
FREE_BYTES = 64 << 20  # declared without regard to the ratio: a small file of zeros is harmless
MAX_OBJECTS = 100_000  # groups and datasets of an HDF5 file, members of a zip
CODE_CLASSES = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__")
BIG = "if it really is that large, open it in Keras yourself and pass the live model"
CONVERTED = (".tflite", ".onnx")  # the suffixes of converted files, which can only be converted further

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class Kind(Enum):
    """What a path holds."""

    KERAS_3 = "a .keras file of Keras 3"
    TF_KERAS = "a .keras file of tf_keras"
    HDF5 = "an HDF5 file of a whole model"
    WEIGHTS = "a file of weights alone"
    SAVED_MODEL = "a SavedModel of a Keras model"
    PLAIN_SAVED_MODEL = "a SavedModel without a Keras model"
    PRETRAINED = "a folder of config.json and safetensors, or a GGUF file"


@dataclass(frozen=True)
class ModelFile:
    """A file whose structure was found to be harmless."""

    path: Path
    kind: Kind
    config: dict[str, Any]  # the serialized model; empty for weights and SavedModels
    loss: Any = None  # the serialized loss of a compiled model
    legacy: bool = False  # written by Keras 2 or tf_keras


def examine(path: Path, *, allow_code: bool) -> ModelFile:
    """Look into a file or SavedModel folder. Raises ModelError that says what is wrong with it and what to do."""
    if not path.exists():
        raise ModelError(f"no model file {path}")
    try:
        found = _look(path)
        if not allow_code:
            refuse_code(found.config, path)
    except OSError as problem:
        raise ModelError(f"cannot read {path}: {problem.strerror or problem}") from problem
    except RecursionError as problem:
        raise ModelError(f"{path}: its config is nested too deeply to be a model's") from problem
    return found


def refuse_code(config: object, path: Path) -> None:
    """Raise ModelError when a config, at any depth, names a class that runs code of the file."""
    for class_name, name in code_in(config):
        raise ModelError(
            f"{path}: layer '{name}' ({class_name}) can run code when it is loaded; "
            "replace it, or pass --allow-code if you trust the file"
        )


def code_in(node: object, owner: str = "?") -> Iterator[tuple[str, str]]:
    """(class name, name of the layer around it) of everything in a config that carries code."""
    if isinstance(node, dict):
        config = node.get("config")
        name = str(config["name"]) if isinstance(config, dict) and "name" in config else owner
        if node.get("class_name") in CODE_CLASSES:
            yield str(node["class_name"]).strip("_"), name
        elif "lambda" in (node.get("function_type"), node.get("output_shape_type"), node.get("mask_type")):
            yield "lambda", owner
        for value in node.values():
            yield from code_in(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from code_in(value, owner)


def classes_in(node: object) -> Iterator[tuple[str, str, bool]]:
    """(class name, layer name, whether the class is Keras's own) of every serialized object."""
    if isinstance(node, dict):
        if "class_name" in node:
            config = node.get("config")
            name = str(config.get("name", "?") if isinstance(config, dict) else "?")
            yield str(node["class_name"]), name, str(node.get("module")).startswith("keras")
        for value in node.values():
            yield from classes_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from classes_in(value)


def refusal(problem: Exception, config: object, path: Path) -> ModelError:
    """One line out of Keras's many; a layer class that Keras does not know is named with its layer."""
    text = " ".join(str(problem).split())
    if path.suffix == ".keras" and any(name.split(">")[-1].startswith("Quantize") for name, _, _ in classes_in(config)):
        return ModelError(
            f"{path}: tf_keras cannot read its own .keras of a model that TFMOT quantized; save the model as .h5"
        )
    for class_name, name, known in classes_in(config):
        if not known and (f"'{class_name}'" in text or f"Unknown layer: {class_name}" in text):
            return ModelError(
                f"{path}: unsupported layer '{name}' of type {class_name}: Keras does not know the class; "
                "load it with keras.saving.register_keras_serializable and pass the live model to edgekit"
            )
    return ModelError(f"{path}: Keras cannot load it: {text[:300]}")


def read_member(path: Path, name: str) -> Any:
    """The JSON in a member of a zip that was examined before; None when it is not there."""
    with zipfile.ZipFile(path) as archive:
        return _json(archive, name, path) if name in archive.namelist() else None


def _look(path: Path) -> ModelFile:
    if is_pretrained(path):
        return ModelFile(path, Kind.PRETRAINED, {})
    if path.is_dir():
        return _look_at_folder(path)
    if zipfile.is_zipfile(path):
        return _look_at_zip(path)
    with path.open("rb") as stream:
        if stream.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC:
            return _look_at_hdf5(path)
    if path.suffix in (".h5", ".hdf5"):
        raise ModelError(f"{path}: not an HDF5 file, or cut short; save or copy it again")
    if path.suffix in CONVERTED:
        raise ModelError(
            f"{path}: converted already, without a Keras model: it cannot be compressed, only converted (edgekit "
            "convert); bring the Keras model that it was exported from"
        )
    if path.suffix == ".pb":
        raise ModelError(f"{path}: a part of a SavedModel; pass the folder that holds it")
    raise ModelError(f"{path}: not a Keras model file, or cut short (.keras, .h5, or a SavedModel folder)")


def _look_at_folder(path: Path) -> ModelFile:
    if not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{path}: a folder without saved_model.pb or config.json; pass a .keras or .h5 file, a SavedModel folder, "
            "or a folder of config.json and safetensors"
        )
    keras = (path / "keras_metadata.pb").is_file()
    return ModelFile(path, Kind.SAVED_MODEL if keras else Kind.PLAIN_SAVED_MODEL, {})


def _look_at_zip(path: Path) -> ModelFile:
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            _check_members(archive, path)
            broken = archive.testzip()
            if broken is not None:
                raise ModelError(f"{path}: member '{broken}' is damaged; copy or save the file again")
            config = _json(archive, "config.json", path)
            version = _json(archive, "metadata.json", path) if "metadata.json" in archive.namelist() else {}
            weights = [name for name in archive.namelist() if name.endswith(".h5")]
            for name in weights:
                with open_member(archive, name, stream) as member:
                    _check_hdf5(member, path, archive.getinfo(name).file_size)
    except UNREADABLE_ZIP as problem:
        raise ModelError(f"{path}: not a .keras file, or cut short ({problem})") from problem
    if not isinstance(config, dict) or not isinstance(version, dict):
        raise ModelError(f"{path}: not a .keras file (its config.json is not an object)")
    legacy = not str(version.get("keras_version", "3")).startswith("3")
    compiled = config.get("compile_config")
    loss = compiled.get("loss") if isinstance(compiled, dict) else None
    return ModelFile(path, Kind.TF_KERAS if legacy else Kind.KERAS_3, config, loss, legacy)


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    if len(members) > MAX_OBJECTS or len({member.filename for member in members}) != len(members):
        raise ModelError(f"{path}: {len(members)} members, some of one name or too many; not what Keras writes")
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ModelError(f"{path}: member '{member.filename}' leads out of the archive; not what Keras writes")
        if member.flag_bits & 1:
            raise ModelError(f"{path}: member '{member.filename}' is encrypted; save the model without a password")
    _check_size(sum(member.file_size for member in members), path.stat().st_size, path)


def _check_size(declared: int, size: int, path: Path) -> None:
    if declared > MAX_BYTES:
        raise ModelError(f"{path}: declares {declared:,} bytes of weights, at most {MAX_BYTES:,} are loaded; {BIG}")
    if declared > FREE_BYTES + MAX_RATIO * size:
        raise ModelError(f"{path}: declares {declared:,} bytes of weights in a file of {size:,}; {BIG}")


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    try:
        return json.loads(archive.read(name))
    except RecursionError as problem:
        raise ModelError(f"{path}: its {name} is nested too deeply to be a model's") from problem
    except ValueError as problem:
        raise ModelError(f"{path}: not a .keras file, or cut short ({name}: {problem})") from problem


def _look_at_hdf5(path: Path) -> ModelFile:
    import h5py

    with path.open("rb") as stream:
        _check_hdf5(stream, path, path.stat().st_size)
    try:
        with h5py.File(path, "r") as file:
            texts = {name: file.attrs.get(name) for name in ("model_config", "training_config")}
            legacy = not _text(file.attrs.get("keras_version", "2")).startswith("3")
            legacy_weights = "layer_names" in file.attrs
    except (OSError, RuntimeError, KeyError, ValueError) as problem:
        raise ModelError(f"{path}: not an HDF5 file, or cut short ({problem})") from problem
    if texts["model_config"] is None:
        return ModelFile(path, Kind.WEIGHTS, {}, legacy=legacy_weights)
    config, training = (_attribute(text, path) for text in texts.values())
    if not isinstance(config, dict):
        raise ModelError(f"{path}: its model_config is not an object; save the model again")
    loss = training.get("loss") if isinstance(training, dict) else None
    return ModelFile(path, Kind.HDF5, config, loss, legacy)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _attribute(text: Any, path: Path) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError) as problem:
        raise ModelError(f"{path}: its model_config is not JSON ({problem}); save the model again") from problem


def _check_hdf5(stream: IO[bytes], path: Path, size: int) -> None:
    """Walk links and headers of an HDF5 file without reading any data."""
    import h5py

    try:
        with h5py.File(stream, "r") as file:
            declared = sum(_declared_bytes(file, path))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as problem:
        raise ModelError(f"{path}: its HDF5 part is damaged or cut short ({problem}); save it again") from problem
    _check_size(declared, size, path)


def _declared_bytes(file: Any, path: Path) -> Iterator[int]:
    import h5py

    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                where = f"{getattr(link, 'filename', '')}:{link.path}".lstrip(":")
                raise ModelError(f"{path}: '{place}' is a link to '{where}'; a model's weights are in its own file")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise ModelError(f"{path}: more than {MAX_OBJECTS:,} groups and arrays; not what Keras writes")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                yield _dataset_bytes(item, place, path)


def _dataset_bytes(dataset: Any, place: str, path: Path) -> int:
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{path}: array '{place}' lies in another file; a model's weights are in its own file")
    count = 1
    for length in dataset.shape or ():
        count *= int(length)  # Python's whole numbers do not overflow
    return count * int(dataset.dtype.itemsize)
