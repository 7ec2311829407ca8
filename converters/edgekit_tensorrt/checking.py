"""The TensorRT checker: parse and build in a subprocess, and say what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any  # Any: the builder's reply, which is JSON

from edgekit import workers
from edgekit.conversion import Artifact, Verdict
from edgekit.errors import ConversionError
from edgekit.files import write_text
from edgekit_tensorrt.onnx_facts import find_fault, weighted_nodes
from edgekit_tensorrt.plan import parse_plan, weighted_dtypes

COMPUTE_CAPABILITY = "SM86"  # Ampere; TensorRT-RTX has no Orin (SM87)
MAX_BATCH = 8

_TIMEOUT_S = 900.0
_INSTALL = 'pip install "edgekit[tensorrt-rtx]"'


class TensorRTChecker:
    """Asks TensorRT-RTX's parser and builder whether they take an ONNX file."""

    def available(self) -> str | None:
        """None when TensorRT-RTX is installed, else what to install."""
        if find_spec("tensorrt_rtx") is None:
            return f"TensorRT-RTX is not installed: {_INSTALL} (x86-64)"
        if find_spec("onnx") is None:
            return 'onnx is not installed: pip install "edgekit[onnx]"'
        return None

    def check(self, artifact: Artifact, *, work: Path) -> Verdict:
        """Build an engine and throw it away; the builder's log stays in `work`.

        Raises ConversionError when the checker is not installed, or the builder crashes or runs out of time.
        """
        reason = self.available()
        if reason is not None:
            raise ConversionError(reason)
        if artifact.format != "onnx":
            raise ConversionError(
                f"TensorRT reads ONNX, and {artifact.path.name} is {artifact.format}: convert to onnx"
            )
        name = f"TensorRT-RTX {_release(version('tensorrt_rtx'))} parser and builder"
        fault = find_fault(artifact.path)
        if fault is not None:
            return Verdict(name, accepted=False, detail=fault)
        reply = _build(artifact.path)
        write_text(work / f"{artifact.path.stem}.tensorrt-rtx.log", "\n".join(reply["log"]) + "\n")
        return Verdict(
            checker=name,
            accepted=not reply["problems"],
            detail="; ".join(reply["problems"]) or _planned(artifact.path, reply["plan"]),
            facts=_facts(reply),
        )


def _build(model: Path) -> dict[str, Any]:
    return workers.call(
        "edgekit_tensorrt.build_worker",
        {"model": str(model.resolve()), "compute_capability": COMPUTE_CAPABILITY, "max_batch": MAX_BATCH},
        timeout_s=_TIMEOUT_S,
        what=f"building {model.name} with TensorRT-RTX",
        error=ConversionError,
    )


def _facts(reply: Mapping[str, Any]) -> dict[str, object]:
    return {
        "version": reply["version"],
        "compute_capability": COMPUTE_CAPABILITY,
        "max_batch": MAX_BATCH,
        "build_s": reply["build_s"],
        "warnings": reply["warnings"],
    }


def _planned(model: Path, plan: str) -> str:
    """ "5 of 5 weighted layers planned as Int8"."""
    nodes = weighted_nodes(model)
    dtypes = weighted_dtypes(parse_plan(plan), nodes)
    return f"{_count(dtypes, nodes)}, for {COMPUTE_CAPABILITY}"


def _count(dtypes: Mapping[str, str], nodes: Sequence[str]) -> str:
    counted = Counter(dtypes.values()).most_common()
    if not nodes:
        return "no weighted layers"
    return ", ".join(f"{count} of {len(nodes)} weighted layers planned as {dtype}" for dtype, count in counted)


def _release(number: str) -> str:
    return ".".join(number.split(".")[:3])
