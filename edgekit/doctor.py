"""What works on this machine, and how to get the rest: each part of edgekit by the packages it imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

# What each part needs: the extra that brings it -> distributions. The extras themselves stand in pyproject.toml.
PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "run TFLite": ("litert", ("ai-edge-litert",)),
    "run ONNX": ("onnxruntime", ("onnxruntime",)),
    "serve": ("serve", ("starlette", "uvicorn", "prometheus-client")),
    "load and compress": ("compress", ("keras", "tensorflow")),
    "compress with TFMOT": ("tfmot", ("tf_keras", "tensorflow-model-optimization")),
    "convert to TFLite": ("tflite", ("litert-quantizer", "ai-edge-litert")),
    "convert to ONNX": ("onnx", ("onnx", "tf2onnx")),
    "check with TensorRT-RTX": ("tensorrt-rtx", ("tensorrt-rtx",)),
    "reports": ("report", ("jinja2", "altair", "vl-convert-python", "pillow", "rich")),
    "device tests": ("testing", ("pytest",)),
    "native runner": ("native", ("ziglang",)),
    "adb": ("adb", ("adbutils",)),
    "search": ("search", ("optuna",)),
    "search on Ray": ("ray", ("ray",)),
    "language models": ("language", ("safetensors", "tokenizers")),
    "GGUF files": ("gguf", ("gguf",)),
    "pictures": ("images", ("pillow",)),
    "signatures": ("signing", ("cryptography",)),
    "demo data": ("demo", ("mlxtend",)),
}


@dataclass(frozen=True)
class Finding:
    """One part of edgekit here."""

    part: str
    works: bool
    packages: Mapping[str, str | None]  # distribution -> version; None where it is missing
    remedy: str | None  # the command that brings it


def examine() -> list[Finding]:
    """Look at every part; imports none of them."""
    return [_finding(part, extra, packages) for part, (extra, packages) in PARTS.items()]


def _finding(part: str, extra: str, packages: tuple[str, ...]) -> Finding:
    found = {package: _version(package) for package in packages}
    works = None not in found.values()
    return Finding(part, works, found, None if works else f'pip install "edgekit[{extra}]"')


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
