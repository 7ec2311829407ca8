"""Models that keep state, converted and called step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.manifest import Binding, Input, Member, State, StateTensor, Variant
from edgekit.runtime import Session, open_file
from edgekit.tensors import TensorSpec

STEPS = 6
Run = Callable[..., Any]
Steps = tuple[dict[str, np.ndarray], ...]


def stream(*, unroll: bool) -> Any:
    """An LSTM and a GRU in a row, one time step in each call."""
    import keras
    from keras import layers

    x = keras.Input(batch_shape=(1, 1, 3), name="x")
    words = layers.LSTM(4, stateful=True, return_sequences=True, unroll=unroll, name="words")(x)
    sentence = layers.GRU(5, stateful=True, unroll=unroll, name="sentence")(words)
    model = keras.Model(x, layers.Dense(2, name="y")(sentence), name="stream")
    generator = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(generator.normal(0, 0.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def steps() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(STEPS, 1, 1, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(steps: np.ndarray) -> np.ndarray:
    """What Keras says, call after call."""
    model = stream(unroll=False)
    return np.concatenate([np.asarray(model(step)) for step in steps])


def answers(path: Path, steps: np.ndarray) -> np.ndarray:
    """What LiteRT says, call after call; states that are inputs begin at zero and come from the last call's outputs."""
    from edgekit_tflite.running import Runner

    run = Runner(path)
    taken = sorted(name for name in run._takes if name != "x")
    names = sorted(run._gives)
    states = {name: np.zeros((1, 5 if "sentence" in name else 4), np.float32) for name in taken}
    found = []
    for step in steps:
        given = dict(zip(names, run({"x": step, **states}), strict=True))
        states = {name: given[name.replace("_in", "_out")] for name in taken}
        found.append(given["y"])
    return np.concatenate(found)


def check_streams(path: Path, steps: np.ndarray, expected: np.ndarray, *, in_variables: bool) -> None:
    """The same in a session, which keeps the state: begun anew, and in two streams at once."""
    with opened(path, in_variables=in_variables) as session, session.new_stream() as other:
        for _ in range(2):
            for step, wanted in zip(steps, expected, strict=True):
                np.testing.assert_allclose(session.run({"x": step})["y"][0], wanted, atol=1e-5)
            session.reset_state()
        np.testing.assert_allclose(other.run({"x": np.concatenate(steps)})["y"], expected, atol=1e-5)
        with pytest.raises(DataError, match="unknown input 'words_h_in'"):
            session.run({"x": steps[0], "words_h_in": np.zeros((1, 4), np.float32)})


def opened(path: Path, *, in_variables: bool) -> Session:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    details = {item["index"]: item for item in (*interpreter.get_input_details(), *interpreter.get_output_details())}
    (signature,) = interpreter._get_full_signature_list().values()
    sides = [
        {name: Binding(name, details[index]["name"], "float32") for name, index in signature[side].items()}
        for side in ("inputs", "outputs")
    ]
    tensors = [
        StateTensor(
            sides[0][name],
            sides[1][name.replace("_in", "_out")],
            tuple(details[signature["inputs"][name]]["shape"].tolist()),
        )
        for name in sides[0]
        if name != "x"
    ]
    assert bool(tensors) != in_variables
    variant = Variant(
        id="stream", format="tflite", precision="fp32", member=Member(path.name, "", 0), targets=(), engine="litert",
        engine_least_version="1.0", inputs=(sides[0]["x"],), outputs=(sides[1]["y"],), golden_tolerance=0.0,
        state=State(tuple(tensors)),
    )  # fmt: skip
    return open_file(path, variant, [Input("x", (None, 1, 3), "float32")], [TensorSpec("y", (None, 2), "float32")])


@pytest.mark.parametrize("state", ["variables", "inputs-outputs"])
def test_calls_go_on_where_the_last_one_stopped(
    edgekit: Run, tmp_path: Path, steps: np.ndarray, expected: np.ndarray, state: str
) -> None:
    stream(unroll=False).save(tmp_path / "stream.keras")
    output = tmp_path / "stream.tflite"
    ended = edgekit("convert", tmp_path / "stream.keras", "--to", "tflite", "--state", state, "-o", output, "--json")
    assert ended.exit_code == 0, ended.stderr
    np.testing.assert_allclose(answers(output, steps), expected, atol=1e-5)
    np.testing.assert_allclose(answers(output, steps), expected, atol=1e-5)  # opened anew, it begins anew
    check_streams(output, steps, expected, in_variables=state == "variables")
    found = edgekit("inspect", output, "--json").json
    types = {layer["type"] for layer in found["layers"]}
    if state == "variables":
        compared = edgekit("compare", output, output, "--data", tmp_path / "none.npz")
        assert f"{output} keeps state in variables, and what is compared are samples" in compared.stderr
        assert {"READ_VARIABLE", "ASSIGN_VARIABLE"} <= types
        assert [item["name"] for item in found["inputs"]] == ["x"]
        (note,) = ended.json["notes"]
        assert note.startswith("state is in variables: each call goes on where the last one stopped")
    else:
        assert not {kind for kind in types if "VARIABLE" in kind}
        states = ("words_h", "words_c", "sentence_h")
        assert {item["name"] for item in found["inputs"]} == {"x", *(f"{name}_in" for name in states)}
        assert {item["name"] for item in found["outputs"]} == {"y", *(f"{name}_out" for name in states)}


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("state", ["variables", pytest.param("inputs-outputs", marks=pytest.mark.slow)])
def test_integers_go_on_too(
    edgekit: Run, tmp_path: Path, steps: np.ndarray, expected: np.ndarray, state: str, unroll: bool
) -> None:
    stream(unroll=unroll).save(tmp_path / "stream.keras")
    generator = np.random.default_rng(2)
    calibration = {"x": generator.normal(size=(40, 1, 3))}
    if state == "inputs-outputs":
        sizes = {"words_h_in": 4, "words_c_in": 4, "sentence_h_in": 5}
        calibration |= {name: generator.uniform(-1.2, 1.2, (40, size)) for name, size in sizes.items()}
    np.savez(tmp_path / "c.npz", **{name: array.astype(np.float32) for name, array in calibration.items()})
    output = tmp_path / "int8.tflite"
    argv = ("--precision", "int8", "--calibration", tmp_path / "c.npz", "--state", state, "-o", output)
    ended = edgekit("convert", tmp_path / "stream.keras", "--to", "tflite", *argv)
    assert ended.exit_code == 0, ended.stderr
    found = answers(output, steps)
    assert 10 * np.log10(np.sum(expected**2) / np.sum((found - expected) ** 2)) > 15


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--to", "tflite"), "'stream' keeps state from call to call ('words', 'sentence'): choose --state variables"),
        (("--to", "onnx", "--dynamic-batch"), "settings of --to onnx: unknown key 'dynamic_batch'"),
        (("--to", "onnx", "--state", "variables"), "--to onnx has no variables: choose --state inputs-outputs"),
        (("--to", "tflite", "--state", "vars"), "state is 'vars'; did you mean 'variables'?"),
        (
            ("--to", "tflite", "--state", "variables", "--dynamic-batch"),
            "the state of 'stream' has a batch of 1: leave dynamic_batch out",
        ),
    ],
)
def test_a_state_that_cannot_be_had(
    edgekit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stream(unroll=False).save("stream.keras")
    ended = edgekit("convert", "stream.keras", *argv, "-o", f"x.{argv[1]}")
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert not Path(f"x.{argv[1]}").exists()


def test_an_engine_has_no_state(edgekit: Run, tmp_path: Path) -> None:
    stream(unroll=False).save(tmp_path / "stream.keras")
    argv = ("--to", "tensorrt", "--state", "inputs-outputs", "-o", tmp_path / "x.engine")
    ended = edgekit("convert", tmp_path / "stream.keras", *argv)
    assert ended.exit_code == 2
    assert "--state is for --to tflite and onnx, not tensorrt: leave it out" in ended.stderr


def test_a_model_with_state_is_not_compared(edgekit: Run, tmp_path: Path) -> None:
    stream(unroll=False).save(tmp_path / "stream.keras")
    ended = edgekit("compare", tmp_path / "stream.keras", tmp_path / "stream.keras", "--data", tmp_path / "none.npz")
    assert ended.exit_code == 2
    assert "'stream' keeps state from call to call ('words', 'sentence'), and what is compared are" in ended.stderr
