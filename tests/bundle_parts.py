"""What a small bundle is made of, and zips that nobody checked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from edgekit import manifest as manifest_format
from edgekit.manifest import MANIFEST_MEMBER, Manifest
from tests.tiny_models import Part, manifest_of

CONTENTS = {"golden.npz": b"golden" * 50, "onnx-fp32.onnx": bytes(range(256)), "tflite-int8.tflite": b"\0" * 5000}
Entries = dict[str, bytes]


def example_manifest() -> Manifest:
    variants = (
        Part("tflite", "int8", CONTENTS["tflite-int8.tflite"], "litert", "int8").variant(),
        Part("onnx", "fp32", CONTENTS["onnx-fp32.onnx"], "onnxruntime").variant(),
    )
    return manifest_of(variants, CONTENTS["golden.npz"])


def zipped(path: Path, entries: Entries, change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> Path:
    """A zip of these entries, in this order, with no check of ours."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            change(info)
            archive.writestr(info, content)
    return path


def good_entries(manifest: Manifest | None = None) -> Entries:
    return {MANIFEST_MEMBER: manifest_format.to_bytes(manifest or example_manifest()), **CONTENTS}


def in_directory(content: bytes, offset: int, value: int) -> bytes:
    """A byte of every entry of the zip's central directory changed."""
    changed, start = bytearray(content), content.find(b"PK\x01\x02")
    while start >= 0:
        changed[start + offset] = value
        start = content.find(b"PK\x01\x02", start + 4)
    return bytes(changed)
