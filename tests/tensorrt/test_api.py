"""Every name of TensorRT that the code uses is in every binding it is meant for; only names that it looks for may lack.

The files in api/ give the classes and members of NVIDIA's public Python bindings (tensorrt 10.3.0, 10.13.3, 10.16.1 and
11.4.0, tensorrt_lean 11.4.0, tensorrt_rtx 1.7.1), as far as they concern building and running engines.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "edgekit"
API = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("api").glob("*.json")}
BUILDING = sorted((ROOT / "tensorrt").glob("*.py"))
RUNNING = sorted((ROOT / "runtime").glob("engine_tensorrt*.py"))
MODULES = ("trt", "_trt")

# What a variable is, so that what is called on it can be looked up.
OBJECTS = {
    "builder": "Builder", "config": "IBuilderConfig", "network": "INetworkDefinition", "parser": "OnnxParser",
    "error": "ParserError", "tensor": "ITensor", "layer": "ILayer",
}  # fmt: skip
LOCAL = {("_add_profile", "profile"): "IOptimizationProfile"}  # elsewhere, the word means edgekit's own

# Names that are looked for before they are used -> the bindings that lack them.
PROPER = {name for name in API if not name.startswith("tensorrt-rtx")}
DETECTED = {
    "ComputeCapability": PROPER,
    "IBuilderConfig.num_compute_capabilities": PROPER,
    "IBuilderConfig.set_compute_capability": PROPER,
}


def uses(path: Path) -> Iterator[str]:
    """ "BuilderFlag.GPU_FALLBACK", "Builder.create_network"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        kinds = dict(OBJECTS)
        if isinstance(function, ast.FunctionDef):
            kinds |= {variable: kind for (name, variable), kind in LOCAL.items() if name == function.name}
        yield from (use for node in ast.walk(function) if isinstance(node, ast.Attribute) for use in _use(node, kinds))


def _use(node: ast.Attribute, kinds: dict[str, str]) -> Iterator[str]:
    words = _words(node)
    for index, word in enumerate(words[:-1]):
        rest = [name for name in words[index + 1 :] if not name.startswith("__")]
        if word in MODULES and rest:
            yield ".".join(rest[:2])
        elif index == 0 and word in kinds and rest:
            yield f"{kinds[word]}.{rest[0]}"


def _words(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*_words(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else [""]


def lacking(api: dict[str, list[str]], names: set[str]) -> set[str]:
    def known(name: str) -> bool:
        kind, _, member = name.partition(".")
        return kind in api and (not member or member in api[kind])

    return {name for name in names if not known(name)}


@pytest.mark.parametrize("version", sorted(API))
def test_every_name_is_in_every_binding(version: str) -> None:
    files = RUNNING if "lean" in version else [*BUILDING, *RUNNING]  # lean only runs engines
    used = {use for path in files for use in uses(path)}
    allowed = {name for name, versions in DETECTED.items() if version in versions}
    assert lacking(API[version], used) - allowed == set()


def test_the_names_are_really_found() -> None:
    used = {use for path in BUILDING for use in uses(path)}
    assert {
        "Builder", "Builder.create_network", "Builder.build_serialized_network", "Builder.num_DLA_cores",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "OnnxParser.parse_from_file", "BuilderFlag.GPU_FALLBACK",
        "IBuilderConfig.set_timing_cache", "IBuilderConfig.progress_monitor", "IProgressMonitor",
        "IOptimizationProfile.set_shape", "ComputeCapability", "ITensor.is_shape_tensor", "ParserError.node_operator",
        *DETECTED,
    } <= used  # fmt: skip


def test_names_that_went_are_noticed() -> None:
    """Of FP16, which 11 and RTX have no more."""
    gone = {version for version, api in API.items() if lacking(api, {"BuilderFlag.FP16"})}
    assert gone == {"tensorrt-11.4.0", "tensorrt-lean-11.4.0", "tensorrt-rtx-1.7.1"}


@pytest.mark.parametrize("name", DETECTED)
def test_what_is_looked_for_is_lacking_somewhere(name: str) -> None:
    assert {version for version in API if lacking(API[version], {name})} == DETECTED[name]


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_the_file_of_what_is_installed_is_true() -> None:
    import tensorrt_rtx as trt

    if not trt.__version__.startswith("1.7.1"):
        pytest.skip(f"api/ has no file of {trt.__version__}")
    for kind, members in API["tensorrt-rtx-1.7.1"].items():
        assert [name for name in members if not hasattr(getattr(trt, kind), name)] == []
