"""Run by `edgekit.workers`: TensorRT's parser and builder on one ONNX file, in a process that may crash or hang."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and TensorRT's objects, which have no types

from edgekit import workers
from edgekit.errors import BuildError, OutputError
from edgekit.files import atomic
from edgekit.strict import parse
from edgekit.tensorrt.bindings import ERROR_SEVERITIES, is_rtx, load, make_logger, make_monitor, product
from edgekit.tensorrt.options import check_options, configure, use_dla
from edgekit.tensorrt.recipe import Recipe, Shapes
from edgekit.tensorrt.sizes import network_ports, profiles_of

_PARSED = 0.01  # of the progress


def build(request: dict[str, Any]) -> dict[str, object]:
    """Write `output`. `refused` in the reply is what TensorRT said instead. Raises BuildError and OutputError."""
    recipe = parse(Recipe, request["recipe"], where="recipe", error=BuildError)
    trt = load(request["package"])
    work = _Build(trt, recipe, request["timing_cache"] and Path(request["timing_cache"]))
    started_ns = time.perf_counter_ns()
    try:
        engine = work.build(request["model"])
        size = _write(engine, Path(request["output"]))
        refused: tuple[str, ...] = ()
    except _RefusedError as problem:
        size, refused = 0, problem.args
    except UnicodeDecodeError:  # of any name that TensorRT hands out
        size, refused = 0, ("a name in the file is no UTF-8 text",)
    return {
        "version": trt.__version__,
        "build_s": (time.perf_counter_ns() - started_ns) / 1e9,
        "bytes": size,
        "refused": refused,
        "notes": work.notes,
        "warnings": work.logger.said("WARNING"),
        "plan": next((text for _, text in work.logger.records if text.startswith("Layers:")), ""),
        "log": [f"{severity}: {text}" for severity, text in work.logger.records],
    }


class _RefusedError(Exception):
    """TensorRT gave None or False; the arguments are what it logged."""


class _Build:
    """One build, and what came to light on the way."""

    def __init__(self, trt: Any, recipe: Recipe, timing_cache: Path | None) -> None:
        self._trt, self._recipe, self._timing_cache = trt, recipe, timing_cache
        self.logger = make_logger(trt)
        self.notes: list[str] = []

    def build(self, model: str) -> Any:
        """The serialized engine."""
        builder = self._builder()
        check_options(self._trt, builder, self._recipe)
        network = builder.create_network(1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parse(network, model)
        workers.advance(_PARSED)
        profiles = profiles_of(self._recipe, network_ports(network))
        config = configure(self._trt, builder, self._recipe)
        for profile in profiles:
            self._add_profile(builder, config, profile)
        self.notes += use_dla(self._trt, network, config, self._recipe)
        cache = self._open_timing_cache(config)
        config.progress_monitor = make_monitor(self._trt, workers.advance)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise self._refused("builder")
        self._keep_timing_cache(config, cache)
        return engine

    def _builder(self) -> Any:
        try:
            return self._trt.Builder(self.logger)
        except TypeError as problem:  # TensorRT proper without a GPU or a driver
            reasons = "; ".join(self.logger.said(*ERROR_SEVERITIES)) or str(problem).splitlines()[0]
            raise BuildError(f"{product(self._trt)} cannot start on this machine: {reasons}") from problem

    def _parse(self, network: Any, model: str) -> None:
        parser = self._trt.OnnxParser(network, self.logger)
        if not parser.parse_from_file(model):  # bytes could not find external data
            errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
            raise _RefusedError(*errors) if errors else self._refused("parser")
        if not network.num_layers or not network.num_outputs:
            raise _RefusedError("the graph has no nodes, or no outputs")

    def _add_profile(self, builder: Any, config: Any, shapes: Mapping[str, Shapes]) -> None:
        profile = builder.create_optimization_profile()
        for name, sizes in shapes.items():
            profile.set_shape(name, sizes.min, sizes.opt, sizes.max)
        if config.add_optimization_profile(profile) < 0:
            raise self._refused("builder")

    def _open_timing_cache(self, config: Any) -> Any:
        """The cache that `config` uses, None where there is none; a damaged or foreign one is begun anew."""
        if is_rtx(self._trt):
            if self._timing_cache is not None:
                self.notes.append(f"{product(self._trt)} has no timing cache: {self._timing_cache.name} is not written")
            return None
        if not self._recipe.timing_cache:
            config.set_flag(self._trt.BuilderFlag.DISABLE_TIMING_CACHE)
            return None
        if self._timing_cache is None:
            return None  # TensorRT's own, for this build alone
        stored = self._timing_cache.read_bytes() if self._timing_cache.is_file() else b""
        cache = config.create_timing_cache(stored)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            self.notes.append(f"the timing cache {self._timing_cache.name} is of another GPU or TensorRT: begun anew")
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache

    def _keep_timing_cache(self, config: Any, cache: Any) -> None:
        if cache is None or self._timing_cache is None:
            return
        try:
            with atomic(self._timing_cache) as temporary:
                temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))
        except OutputError as problem:
            self.notes.append(f"the timing cache is not kept: {problem}")  # the engine is good without it

    def _refused(self, who: str) -> _RefusedError:
        return _RefusedError(*(self.logger.said(*ERROR_SEVERITIES) or [f"the {who} gave no reason"]))


def _write(engine: Any, path: Path) -> int:
    try:
        return path.write_bytes(memoryview(engine))
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}; free some space") from problem


def _describe(error: Any) -> str:
    """A parser error with its node: "[Betainc] node 'y': no importer"."""
    description = " ".join(error.desc().split())
    node = f"[{error.node_operator()}] node '{error.node_name()}': " if error.node_operator() else ""
    return f"{node}{description}"


if __name__ == "__main__":
    workers.serve(build)
