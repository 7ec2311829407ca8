"""A bundle's variant as plain files for an app: the model, its labels, golden vectors, and how to feed it in JSON.

Arrays are raw files, little-endian, in C order, which Kotlin and Swift read without a library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, ConfigError, did_you_mean
from edgekit.files import atomic
from edgekit.manifest import Binding, Input, Manifest, Variant
from edgekit.runtime.choosing import ranked
from edgekit.runtime.golden import GoldenVectors, read_golden
from edgekit.tensors import Array

APP_FORMATS = {"android": "tflite"}  # what an app of that system runs
ASSETS, VERSION = "edgekit-assets", 1


@dataclass(frozen=True)
class Unpacked:
    """What was written."""

    variant: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _GoldenArray:
    role: str  # "input" or "output"
    name: str
    file: str
    values: Array  # the first dimension counts samples

    def described(self) -> dict[str, object]:
        """As the JSON has it."""
        layout = {"shape": self.values.shape, "dtype": self.values.dtype.name}
        return {"role": self.role, "name": self.name, "file": self.file, **layout}


def unpack(bundle: Bundle, folder: Path, *, system: str, variant: str | None = None) -> Unpacked:
    """Write one variant of a bundle into `folder` for an app; other files there stay.

    Without `variant` it is the first in order of preference of the format that apps of `system` run. Everything is
    verified before anything is written. Raises BundleError, ConfigError, OutputError.
    """
    chosen = _choose(bundle, system, variant)
    name = bundle.manifest.name
    model = f"{name}{Path(chosen.member.path).suffix}"
    contents: dict[str, bytes] = {model: bundle.read(chosen.member.path)}
    labels = bundle.manifest.labels
    if labels is not None:
        contents["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
    vectors = read_golden(bundle)
    contents |= {array.file: _raw(array.values) for array in _golden_arrays(vectors)}
    contents[f"{name}.json"] = _description(bundle.manifest, chosen, model, vectors)
    for file, content in contents.items():
        with atomic(folder / file) as temporary:
            temporary.write_bytes(content)
    return Unpacked(chosen.id, tuple(folder / file for file in contents))


def _choose(bundle: Bundle, system: str, variant: str | None) -> Variant:
    if system not in APP_FORMATS:
        raise ConfigError(f"no files for '{system}'{did_you_mean(system, APP_FORMATS)}")
    wanted = APP_FORMATS[system]
    if variant is not None:
        chosen = bundle.variant(variant)
        if chosen.format != wanted:
            raise ConfigError(f"{bundle.path.name}: '{variant}' is {chosen.format}, and {system} runs {wanted}")
        return _stateless(chosen, bundle)
    of_format = [item for item in ranked(bundle.manifest) if item.format == wanted]
    if not of_format:
        have = ", ".join(item.id for item in bundle.manifest.variants)
        raise BundleError(
            f"{bundle.path.name}: {system} runs {wanted}, and the bundle has {have}: build a target of it"
        )
    return _stateless(of_format[0], bundle)


def _stateless(variant: Variant, bundle: Bundle) -> Variant:
    if variant.state is not None:
        raise ConfigError(
            f"{bundle.path.name}: '{variant.id}' keeps state from call to call, which the files for apps do not "
            "describe: run it with edgekit's runtime, or give the app the .tflite that edgekit convert makes"
        )
    return variant


def _description(manifest: Manifest, variant: Variant, model: str, vectors: GoldenVectors) -> bytes:
    shapes = {spec.name: spec.shape for spec in (*(item.spec for item in manifest.inputs), *manifest.outputs)}
    more = {item.name: _how_to_feed(item) for item in manifest.inputs}
    described = {
        "format": ASSETS,
        "format_version": VERSION,
        "model": {"name": manifest.name, "version": manifest.version},
        "variant": variant.id,
        "file": model,
        "inputs": _tensors(variant.inputs, shapes, more),
        "outputs": _tensors(variant.outputs, shapes, {}),
        "labels": None if manifest.labels is None else "labels.txt",
        "golden": {
            "tolerance": variant.golden_tolerance,
            "arrays": [array.described() for array in _golden_arrays(vectors)],
        },
    }
    return json.dumps(described, indent=1, ensure_ascii=False).encode() + b"\n"


def _how_to_feed(item: Input) -> dict[str, object]:
    declared = item.preprocessing
    return {"range": item.range, "preprocessing": None if declared is None else asdict(declared)}


def _tensors(
    bindings: Iterable[Binding],
    shapes: Mapping[str, tuple[int | None, ...]],
    more: Mapping[str, Mapping[str, object]],
) -> list[dict[str, object]]:
    """One entry per tensor in the engine's order; a dynamic size is null."""
    return [{**asdict(item), "shape": shapes[item.name], **more.get(item.name, {})} for item in bindings]


def _golden_arrays(vectors: GoldenVectors) -> list[_GoldenArray]:
    sides = (("input", vectors.inputs), ("output", vectors.outputs))
    return [
        _GoldenArray(role, name, f"golden/{role}-{place}.bin", values)
        for role, arrays in sides
        for place, (name, values) in enumerate(arrays.items())
    ]


def _raw(array: Array) -> bytes:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
