"""Ranges of activations: measured once, and equal to litert-quantizer's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_tflite import converter, graphs, ranges
from edgekit_tflite.calibrate_worker import calibrate
from edgekit_tflite.wide import HEADROOM, allow_all_scales

from edgekit.errors import ConversionError

# LiteRT says that keeping all tensors, which calibration is about, takes memory.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors.:UserWarning")


@pytest.fixture
def fresh(untrained, tmp_path):
    """`fresh(name)`: a case whose export is there, in a work folder of its own."""

    def make(name):
        given = untrained(name)
        (tmp_path / "work").mkdir()
        converter.convert(given.source, precision="fp32", calibration=None, output=tmp_path / "work" / "float.tflite")
        return replace(given, source=replace(given.source, work=tmp_path / "work"))

    return make


def make(given, precision, samples=None, **settings):
    output = given.source.work.parent / f"{precision}.tflite"
    converter.with_options(settings, where="settings").convert(
        given.source, precision=precision, calibration=samples or given.inputs, output=output
    )
    return output.read_bytes()


def measured(given):
    return len(list(given.source.work.glob("measured-*.json")))


def test_variants_share_what_was_measured_on_the_same_samples(fresh):
    given = fresh("pair")
    make(given, "int8")
    make(given, "int8-float-io")
    assert measured(given) == 1
    make(given, "int8", {name: array[:5] for name, array in given.inputs.items()})
    assert measured(given) == 2


def test_the_least_squared_error_is_another_for_each_width(fresh):
    given = fresh("pair")
    make(given, "int8", calibration="mse")
    make(given, "int16x8", calibration="mse")
    assert measured(given) == 2


@pytest.mark.parametrize("name", ["classifier", "pair"])
@pytest.mark.parametrize(("precision", "recipe"), [("int8", "static_wi8_ai8"), ("int16x8", "static_wi8_ai16")])
def test_files_equal_those_of_litert_quantizers_own_calibration(fresh, name, precision, recipe):
    from litert_quantizer import recipe as recipes
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.quantizer import Quantizer
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils import qsv_utils

    given = fresh(name)
    path, lines = str(given.source.work / "float.tflite"), RecipeManager()
    lines.load_quantization_recipe(getattr(recipes, recipe)())
    plain = Calibrator(path, qsv_update_func=qsv_utils.min_max_update)
    count = len(next(iter(given.inputs.values())))
    feeds = [{key: array[i : i + 1] for key, array in given.inputs.items()} for i in range(count)]
    (signature,) = plain.get_signature_list()
    plain.calibrate({signature: feeds}, lines)
    quantizer, room = Quantizer(path, getattr(recipes, recipe)()), HEADROOM if precision == "int16x8" else 1
    ends = {tensor: {key: room * end for key, end in both.items()} for tensor, both in plain.get_model_qsvs().items()}
    expected = quantizer.quantize(ends, enable_progress_report=False).quantized_model
    assert in_common(make(given, precision, bias_correction=False)) == in_common(expected)


def in_common(content):
    """The file packed again without what edgekit sets: the operators' versions, and that additions take all scales."""
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    allow_all_scales(model)
    for code in model.operatorCodes:
        code.version = 1
    for entry in model.metadata:
        if entry.name == b"min_runtime_version":
            model.buffers[entry.buffer].data = None
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder))
    return bytes(builder.Output())


def test_padding_with_infinity_is_in_no_range():
    values = np.array([-np.inf, -2.0, 3.0, np.nan, np.inf], np.float32)
    assert ranges._ends(values).tolist() == [-2.0, 3.0]


def test_the_graph_of_a_composite_operator_is_looked_at_too():
    def graph(*targets):
        made = schema.SubGraphT()
        made.operators = [schema.OperatorT() for _ in targets]
        for operator, target in zip(made.operators, targets, strict=True):
            operator.builtinOptions2 = schema.StableHLOCompositeOptionsT()
            operator.builtinOptions2.decompositionSubgraphIndex = target
        return made

    model = schema.ModelT()
    model.subgraphs = [graph(2, 2), graph(), graph()]
    assert graphs.in_place_graphs(model) == [0, 2]


def test_a_file_that_does_not_run_on_the_samples_is_refused(fresh, tmp_path):
    given = fresh("pair")
    make(given, "int8")
    (samples,) = given.source.work.glob("calibration-*.npz")
    request = {
        "model": str(given.source.work / "float.tflite"), "inputs": ["b_left", "other"], "calibration": str(samples),
        "methods": ["min-max"], "percentile": None, "bits": 8, "output": str(tmp_path / "x.json"),
    }  # fmt: skip
    with pytest.raises(ConversionError, match="LiteRT cannot run the float file on calibration samples"):
        calibrate(request)
    assert not Path(request["output"]).exists()


def test_a_layer_that_is_used_twice_is_stored_once(tmp_path):
    import keras

    from benchmarks.tflite_sides import duplicate_bytes
    from edgekit.exporting import export_source
    from edgekit.loading import load

    shared = keras.layers.Dense(64, name="shared")
    image = keras.Input((64,), name="image")
    twice = keras.ops.tanh(shared(keras.ops.tanh(shared(image))))
    source = export_source(load(keras.Model(image, keras.layers.Dense(3, name="scores")(twice))), tmp_path)
    samples = {"image": np.random.default_rng(0).random((12, 64), np.float32)}
    for precision, width in {"fp32": 4, "int8": 1, "int16x8": 1, "int4-weights": 0.5}.items():
        output = tmp_path / f"{precision}.tflite"
        converter.convert(source, precision=precision, calibration=samples, output=output)
        assert duplicate_bytes(output) < 64 * 64 * width
