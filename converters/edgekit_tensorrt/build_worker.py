"""Run by `edgekit.workers`: TensorRT-RTX's parser and builder on one ONNX file.

TensorRT reports almost everything by None or False and a line in its log, so all of it is collected and returned.
"""

from __future__ import annotations

import time
from typing import Any  # Any: the request, which is JSON, and TensorRT's objects, which have no types

from edgekit import workers
from edgekit.errors import ConversionError

_ERRORS = ("ERROR", "INTERNAL_ERROR")
_NO_GPU = "catchCudaError"  # logged on every machine without a GPU; building ahead of time needs none


def build(request: dict[str, Any]) -> dict[str, object]:
    """Parse and build; `problems` is empty when both succeed."""
    try:
        import tensorrt_rtx as trt
    except (ImportError, OSError) as problem:
        raise ConversionError(f"TensorRT-RTX is installed and cannot be loaded: {problem}") from problem

    logger = _logger(trt)
    started_ns = time.perf_counter_ns()
    problems = _parse_and_build(trt, logger, request)
    return {
        "version": trt.__version__,
        "problems": problems,
        "build_s": (time.perf_counter_ns() - started_ns) / 1e9,
        "warnings": _messages(logger, "WARNING"),
        "plan": next((text for _, text in logger.records if text.startswith("Layers:")), ""),
        "log": [f"{severity}: {text}" for severity, text in logger.records],
    }


def _parse_and_build(trt: Any, logger: Any, request: dict[str, Any]) -> list[str]:
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request["model"]):
        return [_describe(parser.get_error(index)) for index in range(parser.num_errors)] or _errors(logger, "parser")
    if not network.num_outputs:
        return ["the parser found no outputs"]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not _target(trt, config, request["compute_capability"]):
        return _errors(logger, "builder")
    if config.add_optimization_profile(_profile(builder, network, request["max_batch"])) < 0:
        return _errors(logger, "builder")
    return [] if builder.build_serialized_network(network, config) is not None else _errors(logger, "builder")


def _target(trt: Any, config: Any, capability: str) -> bool:
    """Build for a GPU that need not be here; TensorRT proper has no such choice."""
    if not hasattr(trt, "ComputeCapability"):
        return True
    config.num_compute_capabilities = 1
    return bool(config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0))


def _profile(builder: Any, network: Any, largest: int) -> Any:
    """Open sizes of the inputs go from 1 to `largest`."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        low, high = ([size if size >= 0 else limit for size in tensor.shape] for limit in (1, largest))
        profile.set_shape(tensor.name, low, low, high)
    return profile


def _describe(error: Any) -> str:
    """A parser error with its node: "[Betainc] node 'y': no importer"."""
    description = " ".join(error.desc().split())
    node = f"[{error.node_operator()}] node '{error.node_name()}': " if error.node_operator() else ""
    return f"{node}{description}"


def _errors(logger: Any, who: str) -> list[str]:
    return _messages(logger, *_ERRORS) or [f"the {who} gave no reason"]


def _messages(logger: Any, *severities: str) -> list[str]:
    said = (" ".join(text.split()) for severity, text in logger.records if severity in severities)
    return list(dict.fromkeys(text for text in said if _NO_GPU not in text))


def _logger(trt: Any) -> Any:
    class Recorder(trt.ILogger):  # type: ignore[misc]  # the base is loaded at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.records: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.records.append((severity.name, message))  # an exception here would be swallowed

    return Recorder()


if __name__ == "__main__":
    workers.serve(build)
