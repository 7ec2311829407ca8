"""The TensorRT checker: parse and build in a subprocess, and say what was planned."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from edgekit.conversion import Artifact, Finding, Verdict, find_linter
from edgekit.errors import BuildError, ConversionError
from edgekit.files import write_text
from edgekit.tensorrt.bindings import release
from edgekit.tensorrt.building import BuildReport, build_engine
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensorrt.sizes import MAX_BATCH
from edgekit_tensorrt.onnx_facts import weighted_nodes
from edgekit_tensorrt.plan import parse_plan, weighted_dtypes

COMPUTE_CAPABILITY = "SM86"  # Ampere; TensorRT-RTX has no Orin (SM87)
RECIPE = Recipe(compute_capabilities=(COMPUTE_CAPABILITY,))

_TIMEOUT_S = 900.0
_SHOWN = 5  # findings in a message
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

        TensorRT's rules come first, since it takes some broken ones without a word. A crash of the builder, or no end
        in time, is a refusal. Raises ConversionError when the checker is not installed.
        """
        reason = self.available()
        if reason is not None:
            raise ConversionError(reason)
        if artifact.format != "onnx":
            raise ConversionError(
                f"TensorRT reads ONNX, and {artifact.path.name} is {artifact.format}: convert to onnx"
            )
        name = f"TensorRT-RTX {release(version('tensorrt_rtx'))} parser and builder"
        findings = find_linter("onnx").lint(artifact.path, tool="tensorrt")
        if findings:
            return Verdict(name, accepted=False, detail=listed(findings))
        try:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                report = build_engine(artifact.path, RECIPE, Path(folder, "thrown-away.engine"), timeout_s=_TIMEOUT_S)
        except BuildError as problem:
            return Verdict(name, accepted=False, detail="; ".join(problem.reasons) or str(problem))
        write_text(work / f"{artifact.path.stem}.tensorrt-rtx.log", "\n".join(report.log) + "\n")
        return Verdict(name, accepted=True, detail=_detail(artifact.path, report), facts=_facts(report))


def _facts(report: BuildReport) -> dict[str, object]:
    return {
        "version": report.version,
        "compute_capability": COMPUTE_CAPABILITY,
        "max_batch": MAX_BATCH,
        "build_s": report.build_s,
        "warnings": list(report.warnings),
    }


def listed(findings: Sequence[Finding]) -> str:
    """The first findings in one line."""
    more = f"; and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
    return "; ".join(map(str, findings[:_SHOWN])) + more


def planned(model: Path, plan: str) -> str:
    """ "5 of 5 weighted layers planned as Int8"."""
    nodes = weighted_nodes(model)
    return _count(weighted_dtypes(parse_plan(plan), nodes), nodes)


def _detail(model: Path, report: BuildReport) -> str:
    return f"{planned(model, report.plan)}, for {COMPUTE_CAPABILITY}"


def _count(dtypes: Mapping[str, str], nodes: Sequence[str]) -> str:
    counted = Counter(dtypes.values()).most_common()
    if not nodes:
        return "no weighted layers"
    return ", ".join(f"{count} of {len(nodes)} weighted layers planned as {dtype}" for dtype, count in counted)
