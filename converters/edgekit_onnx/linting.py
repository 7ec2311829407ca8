"""Any file put before TensorRT's rules, in a process of its own: ONNX's checks are native code."""

from __future__ import annotations

from pathlib import Path

from edgekit import workers
from edgekit.conversion import Finding
from edgekit.errors import ConfigError, ConversionError, did_you_mean
from edgekit.files import atomic

TOOLS = ("tensorrt",)

_TIMEOUT_S = 600.0
_REMEDY = "copy or export the file again"


def lint(path: Path, *, tool: str) -> tuple[Finding, ...]:
    """What `tool` would not take. Raises ConfigError for another tool, ConversionError when there is no file."""
    _check(path, tool)
    if not path.stat().st_size:
        return (Finding("empty-file", path.name, "it holds nothing", _REMEDY),)
    try:
        reply = workers.call(
            "edgekit_onnx.lint_worker",
            {"model": str(path.resolve()), "output": None},
            timeout_s=_TIMEOUT_S,
            what=f"reading {path.name}",
            error=ConversionError,
        )
    except ConversionError as problem:  # a crash of ONNX's own checks
        return (Finding("valid-onnx", path.name, str(problem), _REMEDY),)
    return tuple(Finding(**found) for found in reply["findings"])


def legalize(path: Path, output: Path, *, tool: str) -> tuple[str, ...]:
    """Write a mended copy. Raises ConfigError for another tool, ConversionError for a file that is not valid ONNX."""
    _check(path, tool)
    with atomic(output) as temporary:
        reply = workers.call(
            "edgekit_onnx.lint_worker",
            {"model": str(path.resolve()), "output": str(temporary.resolve())},
            timeout_s=_TIMEOUT_S,
            what=f"mending {path.name}",
            error=ConversionError,
        )
    return tuple(reply["done"])


def _check(path: Path, tool: str) -> None:
    if tool not in TOOLS:
        raise ConfigError(f"no rules of '{tool}' for .onnx files{did_you_mean(tool, TOOLS)}")
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
