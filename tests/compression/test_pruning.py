from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression.kernels import kernels
from edgekit.compression.pruning import Pruning, polynomial_sparsity, prune
from edgekit.compression.steps import Prune
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import LoadedModel, describe
from tests.compression.conftest import Interrupting
from tests.compression.weights_models import SMALL, matrices, normalized, same_weights, small, sparsity, texts

Columns = dict[str, np.ndarray]


def zeros(loaded: LoadedModel, name: str) -> int:
    return int((matrices(loaded)[name] == 0).sum())


@pytest.fixture
def training(few: Columns) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"))


@pytest.mark.parametrize("schedule", ["polynomial", "constant", "one-shot"])
@pytest.mark.parametrize("sparsity", [0.8, 0.35])
def test_each_kernel_reaches_exactly_its_sparsity(
    loaded: LoadedModel, training: Training, schedule: Any, sparsity: float
) -> None:
    pruned = prune(loaded, Prune(sparsity, epochs=2, schedule=schedule), training)
    assert zeros(pruned, "conv") == round(sparsity * 72)
    assert zeros(pruned, "probabilities") == round(sparsity * 1280)
    assert zeros(pruned, "depthwise") == 0
    assert np.all(np.asarray(pruned.model.get_layer("probabilities").bias) != 0)


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_kernel_is_pruned_at_once_without_data(name: str) -> None:
    before = small(name)
    pruned = edgekit.compress(before, Prune(0.75, epochs=0))
    for kernel in kernels(pruned.model):
        expected = 0 if kernel.kind == "depthwise" else round(0.75 * kernel.size)
        assert int((np.asarray(kernel.variable) == 0).sum()) == expected
    biases = [weight for weight in pruned.model.weights if "bias" in weight.name]
    assert all(np.all(np.asarray(bias) != 0) for bias in biases)
    assert [layer.name for layer in pruned.model.layers[1:]] == [layer.name for layer in before.model.layers[1:]]


def test_what_stays_is_what_is_large(loaded: LoadedModel) -> None:
    pruned = edgekit.compress(loaded, Prune(0.5, epochs=0))
    before, after = matrices(loaded)["conv"], matrices(pruned)["conv"]
    bound = np.sort(np.abs(before), axis=None)[35]
    np.testing.assert_array_equal(after, np.where(np.abs(before) > bound, before, 0))


def test_large_networks_are_pruned_and_say_what_was_left() -> None:
    pruned = edgekit.compress(zoo.build("MobileNetV3Small", size=32), Prune(0.5, epochs=0))
    notes = texts(pruned)
    assert notes["expanded_conv_depthwise"] == (
        "depthwise kernels have 9 weights per channel, too few to lose any; left dense"
    )
    found = [kernel for kernel in kernels(pruned.model) if kernel.kind == "kernel"]
    wanted = sum(round(0.5 * kernel.size) for kernel in found)
    total = sum(kernel.size for kernel in found)
    assert notes[""] == f"{wanted:,} of {total:,} weights in {len(found)} kernels are zero ({wanted / total:.1%})"


def test_state_that_does_not_train_survives() -> None:
    model = normalized()
    pruned = edgekit.compress(model, Prune(0.0, epochs=0))
    values = np.random.default_rng(1).normal(5, 3, (8, 8)).astype(np.float32)
    np.testing.assert_array_equal(pruned.model(values), model(values))


def test_pruning_leaves_the_given_model_and_its_ports(loaded: LoadedModel, training: Training) -> None:
    before = [weight.copy() for weight in loaded.model.get_weights()]
    pruned = prune(loaded, Prune(0.5, epochs=1), training)
    assert (pruned.inputs, pruned.outputs, pruned.name) == (loaded.inputs, loaded.outputs, loaded.name)
    for weight, kept in zip(loaded.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_sparsity_rises_along_a_cubic_curve() -> None:
    curve = [polynomial_sparsity(progress, 0.8) for progress in (0.0, 0.25, 0.5, 1.0, 1.5)]
    assert curve == pytest.approx([0.0, 0.8 * (1 - 0.75**3), 0.7, 0.8, 0.8])


class Dense:
    """One kernel of 4 by 25 under a schedule of 100 batches, whose weights the test sets."""

    def __init__(self, schedule: Any) -> None:
        x = keras.Input((4,), name="x")
        model = keras.Model(x, layers.Dense(25, use_bias=False)(x))
        (self.kernel,) = kernels(model)
        self.kernel.write(np.arange(1, 101, dtype=np.float32).reshape(4, 25))
        step = Prune(0.5, schedule=schedule)
        self.pruning = Pruning(step, [(self.kernel, step)], lambda: [np.abs(np.asarray(self.kernel.variable))])

    def after(self, done: int) -> np.ndarray:
        self.pruning.after_batch(done, 100)
        self.pruning.masks.apply()  # as the optimizer's next update does
        return self.kernel.read()

    def reverse(self) -> None:
        """What was unimportant becomes important."""
        self.kernel.write(np.arange(100, 0, -1, dtype=np.float32).reshape(4, 25))


def test_the_polynomial_schedule_rises_and_chooses_anew_until_the_ramp_ends() -> None:
    subject = Dense("polynomial")
    counts = [int((subject.after(done) == 0).sum()) for done in (0, 20, 40, 60)]
    assert counts == [0, 35, 48, 50]
    subject = Dense("polynomial")
    subject.after(20)
    subject.reverse()
    assert subject.after(60).reshape(-1)[:50].all()


@pytest.mark.parametrize("schedule", ["polynomial", "constant", "one-shot"])
def test_the_masks_stay_after_the_ramp(schedule: Any) -> None:
    subject = Dense(schedule)
    subject.after(0)
    chosen = subject.after(60) == 0
    for done in (61, 62, 80, 100):
        subject.reverse()
        np.testing.assert_array_equal(subject.after(done) == 0, chosen)


def test_constant_demands_everything_from_the_start_and_chooses_anew() -> None:
    subject = Dense("constant")
    assert (subject.after(0) == 0).reshape(-1)[:50].all()
    subject.reverse()
    assert (subject.after(30) == 0).reshape(-1)[50:].all()


def test_one_shot_chooses_once() -> None:
    subject = Dense("one-shot")
    subject.after(0)
    subject.reverse()
    assert (subject.after(30) == 0).reshape(-1)[:50].all()


@pytest.mark.parametrize(("pattern", "schedule"), [("2:4", "polynomial"), ("1:4", "one-shot")])
def test_n_of_m_is_exact_along_the_inputs_of_every_kernel(pattern: str, schedule: Any) -> None:
    before = small("transformer")
    tokens = zoo.inputs(before.model, 64)
    data = {**tokens, "y": np.arange(64) % 10}
    pruned = edgekit.compress(before, Prune(pattern=pattern, epochs=2, batch_size=16, schedule=schedule), data=data)
    kept = int(pattern[0])
    for name, matrix in matrices(pruned).items():
        if name != "embedding":
            groups = (matrix.reshape(-1, 4, matrix.shape[1]) != 0).sum(axis=1)
            assert (groups == kept).all(), name
    assert sparsity(matrices(pruned)["embedding"]) == 0
    assert (
        texts(pruned)["embedding"]
        == f"a table that is looked up in has no sums for the pattern '{pattern}'; left dense"
    )


def test_n_of_m_groups_the_input_channels_of_each_position_of_a_convolution() -> None:
    image = keras.Input((8, 8, 8), name="image")
    model = keras.Model(image, layers.Conv2DTranspose(6, 3, name="up")(layers.Conv2D(4, 3, name="conv")(image)))
    pruned = edgekit.compress(model, Prune(pattern="2:4", epochs=0)).model
    conv = np.asarray(pruned.get_layer("conv").kernel)  # (3, 3, 8 in, 4 out)
    assert ((conv.reshape(3, 3, 2, 4, 4) != 0).sum(axis=3) == 2).all()
    up = np.asarray(pruned.get_layer("up").kernel)  # (3, 3, 6 out, 4 in)
    assert ((up != 0).sum(axis=3) == 2).all()


def test_kernels_that_a_pattern_does_not_divide_are_named() -> None:
    pruned = edgekit.compress(small("several"), Prune(pattern="2:4", epochs=0))
    notes = texts(pruned)
    assert notes["conv"] == "its 3 input channels are not divisible by 4; left dense"
    assert notes["widen"] == "its 6 input channels are not divisible by 4; left dense"
    assert sparsity(matrices(pruned)["conv"]) == 0
    assert sparsity(matrices(pruned)["shared"]) == 0.5


def test_blocks_go_as_a_whole() -> None:
    before = small("LSTM")
    pruned = edgekit.compress(before, Prune(0.5, pattern="4x8", epochs=0))
    for name, matrix in matrices(pruned).items():
        if name == "logits":
            continue
        blocks = (matrix != 0).reshape(matrix.shape[0] // 4, 4, -1, 8).sum(axis=(1, 3))
        assert set(np.unique(blocks)) == {0, 32}, name
        assert int((blocks == 0).sum()) == round(0.5 * blocks.size)
    assert texts(pruned)["logits"] == "its 10 output channels are not divisible by 8; left dense"


def test_the_norm_decides_which_block_is_important() -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(1, use_bias=False, name="dense")(x))
    model.get_layer("dense").kernel.assign([[3.0], [0.0001], [2.0], [2.0]])
    for norm, gone in (("l1", [0, 1]), ("l2", [2, 3])):
        pruned = edgekit.compress(model, Prune(0.5, pattern="2x1", epochs=0, norm=norm))  # type: ignore[arg-type]
        assert np.flatnonzero(matrices(pruned)["dense"] == 0).tolist() == gone


def test_global_pruning_ranks_all_kernels_and_empties_none() -> None:
    before = small("Conv1D")
    before.model.get_layer("conv_0").kernel.assign(before.model.get_layer("conv_0").kernel * 1e-6)
    pruned = edgekit.compress(before, Prune(0.9, scope="global", epochs=0))
    found = {name: sparsity(matrix) for name, matrix in matrices(pruned).items()}
    total = sum(matrix.size for matrix in matrices(pruned).values())
    assert sum((matrix == 0).sum() for matrix in matrices(pruned).values()) == round(0.9 * total)
    assert len({round(value, 3) for value in found.values()}) == 3
    assert max(found.values()) < 1
    assert found["conv_0"] == pytest.approx(0.9, abs=0.08)  # the scale of a kernel is not its importance


@pytest.mark.parametrize(
    ("importance", "scope"),
    [
        ("gradient", "layer"),
        ("gradient", "global"),
        ("taylor", "global"),
        ("random", "global"),
        ("magnitude", "global"),
    ],
)
def test_every_importance_prunes_to_the_target(
    loaded: LoadedModel, training: Training, importance: Any, scope: Any
) -> None:
    pruned = prune(loaded, Prune(0.6, epochs=1, importance=importance, scope=scope), training)
    found = [zeros(pruned, "conv"), zeros(pruned, "probabilities")]
    assert sum(found) == pytest.approx(round(0.6 * 1352), abs=1)
    assert zeros(pruned, "conv") < 72


def test_gradients_find_what_the_loss_needs(loaded: LoadedModel, digits: Any) -> None:
    """At 60 % pruned at once, Taylor terms beat random choice by far, on test data."""
    right = {}
    for importance in ("taylor", "random"):
        step = Prune(0.6, epochs=0, importance=importance)  # type: ignore[arg-type]
        pruned = edgekit.compress(loaded, step, data=digits.train)
        outputs = pruned.predict({"image": digits.test["image"]})["probabilities"]
        right[importance] = float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))
    assert right["taylor"] > right["random"] + 0.2


def test_layers_have_settings_of_their_own(loaded: LoadedModel) -> None:
    step = Prune(0.5, epochs=0, layers={"prob*": {"sparsity": 0.9}, "conv": {"pattern": "3:9"}, "depth*": "skip"})
    pruned = edgekit.compress(loaded, step)
    assert zeros(pruned, "probabilities") == round(0.9 * 1280)
    assert texts(pruned)["conv"] == "its 1 input channels are not divisible by 9; left dense"
    assert "depthwise" not in texts(pruned)


def test_a_pattern_that_matches_nothing_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError) as caught:
        edgekit.compress(loaded, Prune(0.5, epochs=0, layers={"probs": "skip"}))
    assert str(caught.value) == (
        "Prune.layers['probs'] matches no layer of this step; known: conv, depthwise, probabilities"
    )


def test_a_second_pruning_keeps_the_zeros_of_the_first(loaded: LoadedModel, training: Training) -> None:
    first = prune(loaded, Prune(0.7, epochs=0, importance="random"), training)
    for step in (Prune(0.5, epochs=1), Prune(0.5, epochs=1, importance="gradient", schedule="one-shot")):
        second = prune(first, step, training)
        assert (matrices(second)["conv"][matrices(first)["conv"] == 0] == 0).all()
        assert zeros(second, "conv") == round(0.7 * 72)
    skipped = prune(first, Prune(0.8, epochs=1, layers={"conv": "skip"}), training)
    assert zeros(skipped, "conv") == round(0.7 * 72)
    assert zeros(skipped, "probabilities") == round(0.8 * 1280)


def test_a_frozen_layer_is_left_and_named(loaded: LoadedModel) -> None:
    model = keras.models.clone_model(loaded.model)
    model.get_layer("conv").trainable = False
    pruned = edgekit.compress(model, Prune(0.5, epochs=0))
    assert np.all(np.asarray(pruned.model.get_layer("conv").kernel) != 0)
    assert texts(pruned)["conv"] == "frozen: its layer does not train"


def test_nothing_to_prune_is_refused() -> None:
    x = keras.Input((8, 8, 3), name="x")
    model = keras.Model(x, layers.DepthwiseConv2D(3, name="depthwise")(x), name="thin")
    with pytest.raises(ModelError) as caught:
        edgekit.compress(model, Prune(0.5, epochs=0))
    assert str(caught.value) == (
        "step 'prune' finds no kernel in 'thin' to work on (depthwise: depthwise kernels have 9 weights per channel, "
        "too few to lose any; left dense); leave the step out"
    )


def test_gradients_need_data(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"^step 'prune' needs training data: give data$"):
        edgekit.compress(loaded, Prune(0.5, epochs=0, importance="taylor"))


@pytest.mark.parametrize(("importance", "batches"), [("magnitude", 7), ("magnitude", 12), ("taylor", 7)])
def test_a_killed_run_goes_on_to_the_same_bits(
    importance: Any, batches: int, loaded: LoadedModel, few: Columns, tmp_path: Path
) -> None:
    """Interrupted on the ramp (6 of 15 batches) with another choice to come, and after it."""
    step = Prune(0.6, epochs=3, importance=importance)
    whole = edgekit.compress(loaded, step, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(loaded, step, data=few, checkpoints=tmp_path, progress=Interrupting("prune to", batches))
    keras.utils.set_random_seed(7)
    same_weights(edgekit.compress(loaded, step, data=few, checkpoints=tmp_path), whole)


def test_a_weight_that_is_zero_by_chance_is_free_again_after_a_resume(few: Columns, tmp_path: Path) -> None:
    """Zeros in a checkpoint are not its masks: here a weight without gradient that began at zero."""
    image = keras.Input((8, 8, 1), name="image")
    flat = layers.Flatten()(image)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="head")(flat), name="one")
    model.get_layer("head").kernel.assign(np.zeros((64, 10)))
    step = Prune(0.5, epochs=3, schedule="one-shot", importance="random")
    whole = edgekit.compress(model, step, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(model, step, data=few, checkpoints=tmp_path, progress=Interrupting("prune to", 7))
    same_weights(edgekit.compress(model, step, data=few, checkpoints=tmp_path), whole)
    assert describe(whole.model).sparsity < 0.6


def test_two_runs_agree_bit_for_bit(loaded: LoadedModel, few: Columns) -> None:
    step = Prune(0.6, epochs=1, importance="gradient", scope="global")
    same_weights(edgekit.compress(loaded, step, data=few), edgekit.compress(loaded, step, data=few))
