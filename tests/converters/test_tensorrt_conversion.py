"""The TensorRT converter beyond what the command line shows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from edgekit_tensorrt import converter
from edgekit_tensorrt.options import parse_options

from edgekit.conversion import Converter, GpuConverter, find_converter
from edgekit.errors import ConfigError, ConversionError
from edgekit.profiles import load_target, target_names
from edgekit.tensorrt.recipe import Recipe

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')


def test_it_comes_by_entry_point() -> None:
    found: Converter = find_converter("tensorrt")
    assert found is converter
    assert isinstance(found, GpuConverter)


def test_options_are_a_recipe_and_the_machines() -> None:
    table = {"optimization_level": 3, "timing_cache_file": "timings", "timeout_s": 60}
    options = parse_options(table, where="x")
    assert (options.recipe, options.timing_cache_file, options.timeout_s) == (
        Recipe(optimization_level=3), "timings", 60.0,
    )  # fmt: skip
    assert converter.with_options(options, where="x").options is options


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"optimisation_level": 3}, "x: unknown key 'optimisation_level'; did you mean 'optimization_level'?"),
        ({"timeout_s": 0}, r"x: timeout_s is 0\.0, expected more than 0"),
        (3, "x is 3, expected a table"),
    ],
)
def test_wrong_options(table: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}".replace("?", r"\?")):
        converter.with_options(table, where="x")


def test_settings_go_before_the_targets_gpus() -> None:
    own = converter.with_options({"compute_capabilities": ["SM120"]}, where="x")
    assert own.for_gpus(("SM89",)).options.recipe.compute_capabilities == ("SM120",)
    assert converter.for_gpus(("SM89",)).options.recipe.compute_capabilities == ("SM89",)
    assert converter.options.recipe.compute_capabilities == ()


def test_nothing_reads_an_engine_here() -> None:
    for read in (converter.inspect, converter.trace):
        with pytest.raises(ConversionError, match=r"^x\.engine: an engine tells what is inside only to TensorRT"):
            read(Path("x.engine"))


@needs_rtx
def test_every_targets_gpu_is_one_that_tensorrt_rtx_builds_for() -> None:
    import tensorrt_rtx as trt

    gpus = {gpu for name in target_names() for gpu in load_target(name).compute_capabilities}
    assert gpus == {"SM75", "SM86", "SM89", "SM120"}
    assert gpus <= set(trt.ComputeCapability.__members__)


@needs_rtx
def test_what_it_was_built_from_stands_in(case: Any, tmp_path: Path) -> None:
    """The ONNX file is measured where the engine cannot run."""
    given = case("pair")
    made = converter.for_gpus(("SM89",)).convert(
        given.source, precision="int8", calibration=None, output=tmp_path / "tensorrt-int8.engine"
    )
    assert (made.format, made.engine, made.engine_least_version) == ("tensorrt", "tensorrt-rtx", "1.7.1")
    assert made.stand_in is not None
    assert (made.stand_in.format, made.stand_in.precision) == ("onnx", "int8")
    assert made.inputs == made.stand_in.inputs
    assert made.stand_in.path.exists()
    assert made.notes[-1].endswith(" for SM89: 3 of 3 weighted layers planned as Int8")
