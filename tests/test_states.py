"""What recurrent layers keep from call to call, on its way to a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from edgekit.conversion import FIXED_SIGNATURE
from edgekit.errors import ConfigError, EdgekitError, ModelError
from edgekit.exporting import export_source
from edgekit.loading import describe
from edgekit.states import check_stateless, states_of


def streaming(*stack: Any, batch: int = 1, name: str = "stream") -> Any:
    x = outputs = keras.Input(batch_shape=(batch, 1, 3), name="x")
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(x, outputs, name=name)


def test_every_state_has_the_name_of_its_layer_and_role() -> None:
    model = streaming(
        layers.LSTM(4, stateful=True, return_sequences=True, name="words"),
        layers.Bidirectional(layers.GRU(3, stateful=True, return_sequences=True, name="gru"), name="both"),
        layers.RNN([layers.GRUCell(2), layers.LSTMCell(5)], stateful=True, return_sequences=True, name="cells"),
        keras.Sequential([keras.Input(batch_shape=(1, 1, 5)), layers.SimpleRNN(6, stateful=True, name="inner")]),
    )
    assert {(state.name, *state.variable.shape) for state in states_of(model)} == {
        ("words_h", 1, 4), ("words_c", 1, 4), ("forward_gru_h", 1, 3), ("backward_gru_h", 1, 3),
        ("cells_state0", 1, 2), ("cells_state1", 1, 5), ("cells_state2", 1, 5), ("inner_h", 1, 6),
    }  # fmt: skip
    assert states_of(streaming(layers.LSTM(4))) == ()


@pytest.mark.parametrize(
    ("model", "state", "error", "message"),
    [
        (
            lambda: streaming(layers.LSTM(2, stateful=True, name="lstm")),
            None,
            ModelError,
            "'stream' keeps state from call to call ('lstm'): choose --state variables (the file keeps it: a call goes "
            "on where the last one stopped) or --state inputs-outputs (the caller hands it on)",
        ),
        (
            lambda: streaming(layers.LSTM(2, stateful=True, name="lstm")),
            "input-outputs",
            ConfigError,
            "state is 'input-outputs'; did you mean 'inputs-outputs'?",
        ),
        (
            lambda: streaming(layers.LSTM(2)),
            "variables",
            ModelError,
            "'stream' keeps no state: leave --state variables out, or give a layer stateful=True",
        ),
        (
            lambda: streaming(layers.GRU(2, stateful=True, name="gru"), batch=32),
            "variables",
            ModelError,
            "the state of 'gru' is for a batch of 32, expected 1: build the model again with batch_size=1, and load",
        ),
        (
            lambda: streaming(layers.GRU(2, stateful=True, name="my-gru")),
            "inputs-outputs",
            ModelError,
            "the name of 'my-gru_h_in' cannot be exported: use letters, digits and '_', a letter first; rename the",
        ),
    ],
)
def test_a_state_that_cannot_be_had(
    tmp_path: Path, model: Any, state: str | None, error: type[EdgekitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        export_source(describe(model()), tmp_path, state=state)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_a_state_shares_with_an_input_is_refused(tmp_path: Path) -> None:
    x, other = keras.Input(batch_shape=(1, 1, 3), name="x"), keras.Input(batch_shape=(1, 2), name="lstm_h_in")
    kept = layers.LSTM(2, stateful=True, name="lstm")(x)
    loaded = describe(keras.Model([x, other], layers.Add(name="y")([kept, other])))
    with pytest.raises(ModelError, match="2 inputs or outputs are called 'lstm_h_in': rename a layer in Keras"):
        export_source(loaded, tmp_path, state="inputs-outputs")


def test_trained_ranges_are_not_dropped_in_silence(tmp_path: Path) -> None:
    loaded = describe(streaming(layers.GRU(2, stateful=True, name="gru")), {"gru": (-1.0, 1.0)})
    with pytest.raises(ModelError, match="keeps state from call to call, and has ranges trained by QuantizeAware"):
        export_source(loaded, tmp_path, state="variables")


def test_what_takes_no_state_says_why() -> None:
    check_stateless(streaming(layers.LSTM(2)), "never said")
    with pytest.raises(ModelError, match=r"'stream' keeps state from call to call \('lstm'\), and samples are apart"):
        check_stateless(streaming(layers.LSTM(2, stateful=True, name="lstm")), "samples are apart")


@pytest.mark.parametrize("state", ["variables", "inputs-outputs"])
def test_an_export_begins_at_zero_and_leaves_the_model_as_it_is(tmp_path: Path, state: str) -> None:
    model = streaming(layers.GRU(2, stateful=True, name="gru"))
    x = np.ones((1, 1, 3), np.float32)
    first = np.asarray(model(x))
    (kept,) = states_of(model)
    before = kept.variable.numpy()
    source = export_source(describe(model), tmp_path, state=state)
    np.testing.assert_array_equal(kept.variable.numpy(), before)
    serve = tf.saved_model.load(str(source.float_model)).signatures[FIXED_SIGNATURE]
    zero = {"gru_h_in": tf.zeros((1, 2))} if state == "inputs-outputs" else {}
    np.testing.assert_allclose(serve(x=tf.constant(x), **zero)["gru"], first, atol=1e-6)
    assert [spec.name for spec in (*source.inputs, *source.outputs)] == (
        ["x", "gru_h_in", "gru", "gru_h_out"] if zero else ["x", "gru"]
    )
    assert source.state == state
