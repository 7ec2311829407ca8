"""SavedModels that no Keras model stands behind, on their way to a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from edgekit.conversion import DYNAMIC_SIGNATURE
from edgekit.errors import ModelError
from edgekit.saved_model_worker import save_anew


def scale(x: Any) -> dict[str, Any]:
    return {"y": tf.matmul(x, tf.ones((4, 2))) * 0.5}


def saved(folder: Path, *shapes: tuple[int | None, ...], function: Any = scale) -> Path:
    module = tf.Module()
    traced = tf.function(function)
    signatures = {
        f"take{number}": traced.get_concrete_function(x=tf.TensorSpec(shape, name="x"))
        for number, shape in enumerate(shapes)
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def test_a_saved_model_gets_both_batches(tmp_path: Path) -> None:
    found = save_anew(saved(tmp_path / "plain", (None, 4)), tmp_path / "anew", allow_code=False)
    assert found == {
        "inputs": [("x", [4], "float32")],
        "outputs": [("y", [2], "float32")],
        "signatures": ["take0"],
    }
    signatures = tf.saved_model.load(str(tmp_path / "anew")).signatures
    assert set(signatures) == {"take0", DYNAMIC_SIGNATURE}
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_allclose(signatures[DYNAMIC_SIGNATURE](x=tf.constant(x))["y"], scale(x)["y"])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 4),), "input 'x' has shape (1, 4), expected an open batch and nothing else open"),
        (((None, None, 4),), "input 'x' has shape (None, None, 4), expected an open batch"),
        (
            ((None, 4), (3, 4)),
            "its signatures are take0, take1, and none is called 'serving_default': choose",
        ),
        ((), "its signatures are none, and none is called"),
    ],
)
def test_a_saved_model_that_cannot_be_converted(tmp_path: Path, shapes: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        save_anew(saved(tmp_path / "plain", *shapes), tmp_path / "anew", allow_code=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_signatures_are_chosen_by_name(tmp_path: Path) -> None:
    folder = saved(tmp_path / "plain", (None, 4), (None, 2, 4))
    found = save_anew(folder, tmp_path / "anew", allow_code=False, signatures=["take1", "take0"])
    assert (found["inputs"], found["signatures"]) == ([("x", [2, 4], "float32")], ["take1", "take0"])
    signatures = tf.saved_model.load(str(tmp_path / "anew")).signatures
    assert set(signatures) == {"take0", "take1", DYNAMIC_SIGNATURE}
    assert signatures["take0"].structured_input_signature[1]["x"].shape == (1, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["take2"], "has no signature 'take2'; did you mean 'take0'?"),
        (["take0", "take0"], "the signature 'take0' is given twice"),
    ],
)
def test_a_signature_that_cannot_be_chosen(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        save_anew(saved(tmp_path / "plain", (None, 4)), tmp_path / "anew", allow_code=False, signatures=names)
    assert message in str(caught.value)


def test_a_signature_that_has_the_name_of_the_open_batch(tmp_path: Path) -> None:
    module, traced = tf.Module(), tf.function(scale)
    function = traced.get_concrete_function(x=tf.TensorSpec((None, 4), name="x"))
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures={DYNAMIC_SIGNATURE: function})
    with pytest.raises(ModelError, match="the signature 'dynamic' has a name that edgekit needs: save it"):
        save_anew(tmp_path / "plain", tmp_path / "anew", allow_code=False)


def test_a_saved_model_that_reads_files_is_refused(tmp_path: Path) -> None:
    def spy(x: Any) -> dict[str, Any]:
        return {"y": x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}

    with pytest.raises(ModelError, match="its graph has the operator ReadFile, which can run code or touch files"):
        save_anew(saved(tmp_path / "plain", (None, 4), function=spy), tmp_path / "anew", allow_code=False)


def test_a_damaged_saved_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "plain", (None, 4))
    (folder / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="a damaged SavedModel"):
        save_anew(folder, tmp_path / "anew", allow_code=False)
