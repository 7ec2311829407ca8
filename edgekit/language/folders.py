"""A folder of pretrained weights as the Hugging Face hub lays it out: config.json beside safetensors files.

Nothing in such a folder is code, and nothing is allocated by what config.json declares: shapes are compared with those
in the headers of the weights first (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: JSON

import numpy as np

from edgekit.errors import ModelError
from edgekit.files import sha256_file
from edgekit.tensors import Array, format_shape

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GGUF = ".gguf"
INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = ("F64", "F32", "F16", "BF16")
_INSTALL = 'pip install "edgekit[language]"'
_MOST_JSON = 1 << 24  # bytes of a config or an index

Shape = tuple[int, ...]


@dataclass(frozen=True)
class PretrainedFolder:
    """What is in a folder; tensors are read when they are asked for."""

    path: Path
    config: Mapping[str, Any]
    files: Mapping[str, Path]  # name of a tensor -> the file that holds it
    shapes: Mapping[str, Shape]

    @property
    def origin(self) -> Path:
        """The file that says what the weights are of."""
        return self.path / CONFIG

    @property
    def beside(self) -> Path:
        """Where a tokenizer is looked for."""
        return self.path

    def shown(self, name: str) -> str:
        """What the files call a key of the config, or a tensor."""
        return name

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.files

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Raise ModelError for a tensor that is missing or has another shape than the config makes it."""
        for name, shape in expected.items():
            if name not in self.files:
                raise ModelError(
                    f"{self.path}: no tensor '{self.shown(name)}' in its {len(self.files)} tensors, which "
                    f"{self.origin.name} asks for: "
                    "the weights are of another architecture, or not whole"
                )
            if self.shapes[name] != shape:
                raise ModelError(
                    f"{self.path}: '{self.shown(name)}' has shape {format_shape(self.shapes[name])}, "
                    f"{self.origin.name} makes it "
                    f"{format_shape(shape)}: the config is of other weights"
                )

    def tensor(self, name: str) -> Array:
        """One tensor as float32, whatever float it is stored in. Raises ModelError."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.files[name], "numpy") as file:
                kind = file.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    raise ModelError(
                        f"{self.path}: '{name}' holds {kind}, expected floats: bring the weights unquantized"
                    )
                return np.asarray(file.get_tensor(name)).astype(np.float32, copy=False)
        except (SafetensorError, OSError) as problem:
            raise ModelError(
                f"{self.files[name]}: '{name}' cannot be read ({problem}); copy the file again"
            ) from problem

    def sha256(self) -> str:
        """Hex sha256 of the config and the files of weights."""
        files = (self.path / CONFIG, *sorted(set(self.files.values())))
        return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on in the config. Raises ModelError."""
        value = self.config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{self.origin}: {self.shown(key)} is {value!r}, expected a whole number from 1 on")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number above 0 in the config. Raises ModelError."""
        value = self.config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ModelError(f"{self.origin}: {self.shown(key)} is {value!r}, expected a number above 0")
        return float(value)

    def json(self, name: str) -> Any:
        """Another JSON file of the folder; None where there is none. Raises ModelError on a damaged one."""
        path = self.path / name
        return _json(path) if path.is_file() else None


def is_pretrained(path: Path) -> bool:
    """Whether a path looks like a folder of pretrained weights, or a GGUF file."""
    if path.suffix == GGUF and path.is_file():
        return True
    return path.is_dir() and (path / CONFIG).is_file() and not (path / "saved_model.pb").exists()


def open_folder(path: Path) -> PretrainedFolder:
    """Read the config and the headers of the weights. Raises ModelError that says what is missing or damaged."""
    config = _json(path / CONFIG)
    if not isinstance(config, dict):
        raise ModelError(f"{path / CONFIG}: holds {type(config).__name__}, expected an object")
    files, shapes = dict[str, Path](), dict[str, Shape]()
    for file in _weight_files(path):
        for name, shape in _header(file).items():
            files[name], shapes[name] = file, shape
    return PretrainedFolder(path, config, files, shapes)


def _weight_files(path: Path) -> list[Path]:
    index = path / INDEX
    if index.is_file():
        return _shards(path, _json(index))
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if any((path / name).exists() for name in _PICKLED):
        raise ModelError(f"{path}: its weights are pickled, which can run code: save them with safe_serialization=True")
    raise ModelError(f"{path}: no {WEIGHTS} and no {INDEX} beside {CONFIG}: copy the weights there")


def _shards(path: Path, index: Any) -> list[Path]:
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{path / INDEX}: no weight_map of tensor names to file names; copy the file again")
    names = sorted(set(named.values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{path / INDEX}: names '{name}', which is not a file of this folder")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ModelError(
            f"{path}: {len(missing)} of {len(names)} shards are missing ({_shown(missing)}): copy them there"
        )
    lost = sorted(set(named) - {tensor for name in names for tensor in _header(path / name)})
    if lost:
        raise ModelError(f"{path}: the shards lack {_shown(lost)}, which {INDEX} names; copy the files again")
    return [path / name for name in names]


def _header(path: Path) -> dict[str, Shape]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as problem:
        raise ModelError(f"{path}: reading it needs safetensors: {_INSTALL}") from problem
    try:
        with safe_open(path, "numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no dict
    except (SafetensorError, OSError) as problem:
        raise ModelError(f"{path}: not a safetensors file, or cut short ({problem}); copy it again") from problem


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ModelError(f"{path}: {path.stat().st_size:,} bytes, expected at most {_MOST_JSON:,}")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"{path}: cannot be read as JSON ({problem}); copy it again") from problem


def _shown(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
