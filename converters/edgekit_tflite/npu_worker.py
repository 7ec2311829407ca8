"""Run by `edgekit.workers`: ai-edge-litert's ahead-of-time compiler, and what can be wrong with its result.

It does not raise when a vendor's compiler is missing: it lists the target as failed, and leaves an empty file.
"""

from __future__ import annotations

import re
from importlib import import_module, util
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and ai-edge-litert's objects, which have no types

from edgekit import workers
from edgekit.errors import ConfigError, ConversionError, did_you_mean
from edgekit_tflite.npu import VENDORS, Npu, Vendor
from edgekit_tflite.reading import damage_of, parse_model

_EVERY_SOC = "ALL"
_MISSING_LIBRARY = re.compile(r"([\w.+-]+\.so[\w.]*): cannot open shared object file")
_ERROR = re.compile(r"ERROR: \[[^\]]*\] (.*[A-Za-z].*)")


def compile_ahead(request: dict[str, Any]) -> dict[str, object]:
    """Compile `model` for `vendor` and `soc` in `folder`; replies where the result is and how much the NPU takes."""
    npu, model, folder = Npu(request["vendor"], request["soc"]), Path(request["model"]), Path(request["folder"])
    vendor = VENDORS[npu.vendor]
    target = _target(vendor, npu)
    try:
        from ai_edge_litert.aot.aot_compile import aot_compile

        result = aot_compile(str(model), output_dir=str(folder / "compiled"), target=target)
    except Exception as problem:  # a half-installed SDK package raises whatever it raises
        raise ConversionError(_explain(npu, f"it ended with {type(problem).__name__}: {problem}", target)) from problem
    fault = failure_of(result, folder) or fault_of(result, model)
    if fault is not None:
        raise ConversionError(_explain(npu, fault, target))
    return {"compiled": str(result.models[0].path), "taken": taken_of(result)}


def _target(vendor: Vendor, npu: Npu) -> Any:
    """ai-edge-litert's own description. Raises ConfigError for a SoC that it does not know."""
    home = f"ai_edge_litert.aot.vendors.{vendor.package}"
    try:
        import_module(f"{home}.{vendor.package}_backend")  # registers the vendor
        described = import_module(f"{home}.target")
    except ImportError as problem:
        raise ConversionError(
            f"ai-edge-litert has no ahead-of-time compiler here ({problem}): pip install -U ai-edge-litert"
        ) from problem
    known = [soc.value for soc in described.SocModel if soc.value != _EVERY_SOC]
    if npu.soc not in known:
        raise ConfigError(f"npu is '{npu}': {npu.vendor} has no SoC '{npu.soc}'{did_you_mean(npu.soc, known)}")
    return described.Target(described.SocModel(npu.soc))


def failure_of(result: Any, folder: Path) -> str | None:
    """Why a CompilationResult holds no model, by the compiler's log in `folder`; None when it holds one."""
    if not result.failed_backends and result.models:
        return None
    log = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.error"))
    library, error = _MISSING_LIBRARY.search(log), _ERROR.search(log)
    if library:
        return f"it finds no {library[1]}"
    if error:
        return f"it says '{error[1].strip()}'"
    return f"it says '{result.failed_backends[0][1]}'" if result.failed_backends else "it gave no model"


def fault_of(result: Any, model: Path) -> str | None:
    """What is wrong with a CompilationResult that is said to be good; None for nothing. Raises ConversionError."""
    compiled = result.models[0]
    if not compiled.path.is_file() or not compiled.path.stat().st_size:
        return "it left an empty file and no error"
    content = compiled.path.read_bytes()
    with damage_of(f"what the compiler made of {model.name}"):
        operators = parse_model(content).operators
    if not operators or content == model.read_bytes():
        return "it left the file as it was"
    if taken_of(result).startswith("0 "):
        return "it gave none of the operators to the NPU"
    return None


def taken_of(result: Any) -> str:
    """How much of the model the NPU takes: "10 of 12 operators"."""
    stats = result.models[0].partition_stats
    parts = stats.subgraph_stats if stats else []
    if not parts:
        return "an unknown part of the operators (the compiler does not say)"
    taken, operators = (sum(getattr(part, name) for part in parts) for name in ("num_ops_offloaded", "num_total_ops"))
    return f"{taken} of {operators} operators"


def _explain(npu: Npu, reason: str, target: Any) -> str:
    return f"the compiler for {npu} made nothing of use: {reason}; {_sdk(VENDORS[npu.vendor], target)}"


def _sdk(vendor: Vendor, target: Any) -> str:
    """Whether the vendor's SDK package is there, and what to do."""
    name = vendor.sdk.replace("-", "_")
    install = f"pip install {vendor.sdk} where the vendor's downloads can be reached"
    if util.find_spec(name) is None:
        return f"{vendor.sdk} is not installed: {install}, or set LD_LIBRARY_PATH to the vendor's libraries"
    version = (target.recommended_np_version,) if hasattr(target, "recommended_np_version") else ()
    try:
        folder = Path(str(import_module(name).path_to_sdk_libs(*version)))
    except Exception:  # as above
        folder = None
    if folder is None or not any(folder.rglob("*.so*")):
        return f"{vendor.sdk} is installed without the libraries that it should have downloaded: {install} again"
    return f"{vendor.sdk} is installed, with its libraries in {folder}"


if __name__ == "__main__":
    workers.serve(compile_ahead)
