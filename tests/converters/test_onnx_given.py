"""`.onnx` files that a user brings: put in order, recognized, and converted further."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgekit_onnx import conversion, converter, given_worker, opset_worker
from edgekit_onnx.engines import least_runtime
from edgekit_onnx.given import is_finished, precision_of
from edgekit_onnx.tidying import tidied
from onnx import TensorProto, helper, numpy_helper

from edgekit.conversion import Artifact, Source
from edgekit.errors import ConfigError, ConversionError
from edgekit.given import converted_source
from tests.conftest import TorchDigits
from tests.pytorch_files import IMAGE, SCORES, torch_model, with_outside_weights

FLOAT = TensorProto.FLOAT


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are put in order in this process, which saves the start of another; the command line's tests have that."""
    apart = conversion._call
    workers = {"given_worker": given_worker.prepare, "opset_worker": opset_worker.raise_opset}

    def call(worker: str, request: dict[str, Any], what: str) -> dict[str, Any]:
        return workers[worker](request) if worker in workers else apart(worker, request, what)

    monkeypatch.setattr(conversion, "_call", call)
    monkeypatch.setattr(given_worker, "limited", lambda *_: nullcontext())


def source_of(path: Path, work: Path, **lengths: Any) -> Source:
    work.mkdir(exist_ok=True)
    return converted_source(path, converter, work, lengths={IMAGE: lengths["size"]} if lengths else None)


def converted(source: Source, precision: str, images: np.ndarray) -> Artifact:
    output = source.work / f"{precision}.onnx"
    return converter.convert(source, precision=precision, calibration={IMAGE: images}, output=output)


def scores(path: Path, images: np.ndarray, batch: int | None = None) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    starts = range(0, len(images), batch or len(images))
    return np.concatenate(
        [session.run([SCORES], {IMAGE: images[at : at + (batch or len(images))]})[0] for at in starts]
    )


@pytest.fixture(scope="module")
def wanted(torch_digits: TorchDigits) -> np.ndarray:
    """What the float file computes."""
    return scores(torch_digits.model, torch_digits.images)


def test_the_float_file_computes_what_the_keras_model_does(torch_digits: TorchDigits, wanted: np.ndarray) -> None:
    assert np.mean(wanted.argmax(axis=1) == torch_digits.labels) > 0.9


FORMS: dict[str, dict[str, Any]] = {
    "opset 11, weights as inputs": {"opset": 11, "old_style": True},
    "a batch of 4": {"batch": 4},
    "an open size": {"size": "width"},
}


@pytest.mark.parametrize("form", FORMS)
def test_int8_of_every_form(torch_digits: TorchDigits, wanted: np.ndarray, form: str, tmp_path: Path) -> None:
    path = tmp_path / "given.onnx"
    onnx.save(torch_model(torch_digits.weights, **FORMS[form]), str(path))
    source = source_of(path, tmp_path / "work", **({"size": "8x8"} if form == "an open size" else {}))
    artifact = converted(source, "int8", torch_digits.images[:100])
    batch = FORMS[form].get("batch")
    images = torch_digits.images[:296]  # of 297: a multiple of 4
    got = scores(artifact.path, images, batch)
    assert np.mean(got.argmax(axis=1) == wanted[:296].argmax(axis=1)) > 0.98
    assert np.abs(got - wanted[:296]).max() < 0.1
    assert artifact.float_layers == ()
    graph = onnx.load(artifact.path).graph
    assert ([it.name for it in graph.input], [it.name for it in graph.output]) == ([IMAGE], [SCORES])
    first = graph.input[0].type.tensor_type.shape.dim[0]
    assert (first.dim_value or first.dim_param) == (batch or "batch_size")
    if form.startswith("opset 11"):
        assert "12 of its inputs had values and are constants now" in artifact.notes
        assert "opset 11 became 13, the first with a scale for each channel" in artifact.notes


def test_a_plain_file_stays_as_it_is_at_fp32(torch_digits: TorchDigits, tmp_path: Path) -> None:
    source = source_of(torch_digits.model, tmp_path / "work")
    artifact = converted(source, "fp32", torch_digits.images)
    assert artifact.path.read_bytes() == torch_digits.model.read_bytes()
    assert artifact.notes == ()
    assert (artifact.inputs[0].name, artifact.inputs[0].tensor) == (IMAGE, IMAGE)


def test_weights_beside_a_file_go_into_it(torch_digits: TorchDigits, wanted: np.ndarray, tmp_path: Path) -> None:
    path = with_outside_weights(torch_model(torch_digits.weights), tmp_path / "outside.onnx")
    source = source_of(path, tmp_path / "work")
    artifact = converted(source, "fp16", torch_digits.images)
    assert artifact.notes[0] == "5,992 bytes of weights that lay beside it are in it now"
    np.testing.assert_allclose(scores(artifact.path, torch_digits.images), wanted, atol=5e-3)
    assert precision_of(onnx.load(artifact.path)) == "fp16"


def test_a_finished_file_passes_through_or_is_refused(torch_digits: TorchDigits, tmp_path: Path) -> None:
    float_source = source_of(torch_digits.model, tmp_path / "float")
    for precision, other in (("int8", "fp16"), ("fp16", "int8")):
        made = converted(float_source, precision, torch_digits.images[:50]).path
        source = source_of(made, tmp_path / precision)
        again = converted(source, precision, torch_digits.images[:50])
        assert again.path.read_bytes() == made.read_bytes()
        assert again.notes == (f"it was {precision} already: passed through unchanged",)
        with pytest.raises(
            ConversionError, match=rf"is quantized already \({precision}\), so its float weights are gone"
        ):
            converted(source, other, torch_digits.images[:50])


def gemm(**inputs: Any) -> onnx.ModelProto:
    """y = x @ w, with what is given put in its place."""
    settings: dict[str, Any] = {
        "inputs": [helper.make_tensor_value_info("x", FLOAT, ["n", 4])],
        "outputs": [helper.make_tensor_value_info("y", FLOAT, ["n", 3])],
        "nodes": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "constants": [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
        "opset": 17,
        **inputs,
    }
    graph = helper.make_graph(settings["nodes"], "g", settings["inputs"], settings["outputs"], settings["constants"])
    opsets = [helper.make_opsetid("", settings["opset"]), *settings.get("domains", ())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=settings.get("functions", ()))


def constant(values: Any, name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


DYNAMIC = [
    helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
    helper.make_node("MatMulInteger", ["q", "w8", "z"], ["i"]),
    helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
    helper.make_node("Mul", ["f", "s"], ["y"]),
]
STORED = [helper.make_node("DequantizeLinear", ["w8", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
LINEAR = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("QLinearMatMul", ["q", "s", "z", "w8", "s", "z", "s", "z"], ["r"]),
    helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
]
EIGHT = constant(np.ones((4, 3), np.uint8), "w8")
SETTINGS = [constant(np.float32(1), "s"), constant(np.uint8(0), "z")]


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (gemm(), "fp32"),
        (gemm(constants=[constant(np.ones((4, 3), np.float16), "w")]), "fp16"),
        (gemm(constants=[constant(np.ones((4, 3), np.float64), "w")]), "fp64"),
        (gemm(nodes=DYNAMIC, constants=[EIGHT]), "dynamic-int8"),
        (gemm(nodes=STORED, constants=[EIGHT, SETTINGS[0]]), "dynamic-int8"),
        (gemm(nodes=LINEAR, constants=[EIGHT, *SETTINGS]), "int8"),
    ],
)
def test_what_a_file_holds_already(made: onnx.ModelProto, found: str) -> None:
    assert precision_of(made) == found
    assert is_finished(made, "m", found) == (found != "fp32") if found != "fp64" else True
    if found != "fp32":
        words = "computes in float64: export it in float32" if found == "fp64" else f"is quantized already .{found}."
        with pytest.raises(ConversionError, match=words):
            is_finished(made, "m", "int4-weights")


def other_inputs(*values: Any) -> onnx.ModelProto:
    """Inputs beside x that are read, so that only what they look like matters."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        *(helper.make_node("Identity", [v.name], [f"{v.name}2"]) for v in values),
    ]
    return gemm(inputs=[helper.make_tensor_value_info("x", FLOAT, ["n", 4]), *values], nodes=nodes)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (gemm(opset=9), "x has opset 9, expected 11 or newer: export it again with opset_version=17"),
        (
            gemm(inputs=[helper.make_tensor_value_info("x", FLOAT, ["n", "time", 4])],
                 outputs=[helper.make_tensor_value_info("y", FLOAT, ["n", "time", 3])]),
            "input 'x' (batch, ?, 4) float32 leaves more open than the batch: give it a length: --length x=128",
        ),
        (
            gemm(inputs=[helper.make_tensor_value_info("x", FLOAT, [])],
                 nodes=[helper.make_node("Mul", ["x", "w"], ["y"])],
                 outputs=[helper.make_tensor_value_info("y", FLOAT, [4, 3])]),
            "input 'x' () float32 has no dimension for the batch",
        ),
        (
            other_inputs(
                helper.make_tensor_value_info("k", FLOAT, [2, 5]), helper.make_tensor_value_info("l", FLOAT, [3])
            ),
            "its inputs have several batches ('x' (batch, 4) float32, 'k' (2, 5) float32, 'l' (3,) float32)",
        ),
        (
            other_inputs(helper.make_tensor_sequence_value_info("s", FLOAT, None)),
            "'s' is a sequence of no known type, expected a tensor",
        ),
        (
            gemm(nodes=[helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
                 outputs=[helper.make_tensor_value_info("y", FLOAT, [])]),
            "output 'y' () float32 has no dimension for the batch",
        ),
        (
            gemm(inputs=[], nodes=[helper.make_node("MatMul", ["v", "w"], ["y"])],
                 constants=[constant(np.ones((4, 3), np.float32), "w"), constant(np.ones((2, 4), np.float32), "v")]),
            "x.onnx has no inputs",
        ),
        (
            gemm(nodes=[helper.make_node("Mish2", ["x"], ["y"], domain="my.domain")],
                 domains=[helper.make_opsetid("my.domain", 1)]),
            "does not run it",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_converted(tmp_path: Path, made: onnx.ModelProto, message: str) -> None:
    (tmp_path / "x.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ConversionError) as caught:
        converted(source_of(tmp_path / "x.onnx", tmp_path / "work"), "fp16", np.zeros(0))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_opset_that_onnxruntime_does_not_know_yet(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    made = gemm(opset=newest)
    try:
        onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions have no other base
        (tmp_path / "x.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(
            ConversionError, match=rf"onnxruntime {onnxruntime.__version__} does not run it \(ONNX Runtime"
        ):
            source_of(tmp_path / "x.onnx", tmp_path / "work")
    else:
        pytest.skip(f"this onnxruntime knows opset {newest}")


def test_lengths_of_inputs_that_are_not_there(torch_digits: TorchDigits, tmp_path: Path) -> None:
    onnx.save(torch_model(torch_digits.weights, size="width"), str(tmp_path / "x.onnx"))
    (tmp_path / "work").mkdir()
    with pytest.raises(ConfigError, match=r"the model has no input 'input.2'; did you mean 'input.1'"):
        converted_source(tmp_path / "x.onnx", converter, tmp_path / "work", lengths={"input.2": 8})
    with pytest.raises(ConversionError, match=r"the graph does not take inputs of input.1 \(1, 12, 12\)"):
        converted_source(tmp_path / "x.onnx", converter, tmp_path / "work", lengths={IMAGE: "12x12"})


def test_fewer_samples_than_a_batch(torch_digits: TorchDigits, tmp_path: Path) -> None:
    onnx.save(torch_model(torch_digits.weights, batch=4), str(tmp_path / "x.onnx"))
    source = source_of(tmp_path / "x.onnx", tmp_path / "work")
    assert source.batch == 4
    with pytest.raises(ConversionError, match="the model takes batches of 4 samples, and calibration has fewer"):
        converted(source, "int8", torch_digits.images[:3])


def runs_alike(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    results = []
    for each in (before, after):
        session = onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(["y"], {"x": x})[0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def tidy(made: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    return tidied(copy, {})


def test_weights_in_constant_nodes_and_shared_ones_are_found(tmp_path: Path) -> None:
    square = constant(np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32), "value")
    made = gemm(
        nodes=[
            helper.make_node("Constant", [], ["w"], value=square),
            helper.make_node("Identity", ["w"], ["shared"]),
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("MatMul", ["h", "shared"], ["y"]),
        ],
        constants=[],
        outputs=[helper.make_tensor_value_info("y", FLOAT, ["n", 4])],
    )  # fmt: skip
    after, notes = tidy(made)
    assert ([node.op_type for node in after.graph.node], notes) == (["MatMul", "MatMul"], ())
    assert [node.name for node in after.graph.node] == ["h", "y"]
    assert [node.input[1] for node in after.graph.node] == ["w", "w"]
    runs_alike(made, after)


def test_functions_are_put_in_their_place() -> None:
    nodes: list[Any] = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    linear = helper.make_function("pkg", "Linear", ["a", "b"], ["c"], nodes, [helper.make_opsetid("", 17)])
    made = gemm(
        nodes=[helper.make_node("Linear", ["x", "w"], ["y"], domain="pkg")],
        functions=[linear],
        domains=[helper.make_opsetid("pkg", 1)],
    )
    after, notes = tidy(made)
    assert ([node.op_type for node in after.graph.node], notes) == (
        ["MatMul"],
        ("its functions were put in the graph's place",),
    )
    runs_alike(made, after)


def test_nothing_is_changed_in_a_plain_file(torch_digits: TorchDigits) -> None:
    before = onnx.load(torch_digits.model)
    assert tidy(before)[0].SerializeToString() == before.SerializeToString()


@pytest.mark.parametrize(
    ("settings", "version"),
    [({}, "1.14"), ({"opset": 21}, "1.20"), ({"opset": 25}, onnxruntime.__version__)],
)
def test_the_runtime_that_a_file_needs(torch_digits: TorchDigits, settings: dict[str, Any], version: str) -> None:
    assert least_runtime(torch_model(torch_digits.weights, **settings)) == version
