from __future__ import annotations

import keras
import pytest
from keras import layers

from edgekit import Cluster, Factorize, Prune, QuantizeWeights
from edgekit.compression.kernels import Kernel
from edgekit.compression.selection import select, select_kernels
from edgekit.errors import ConfigError, ModelError
from edgekit.loading import Note

NAMES = ["block_1_conv", "block_2_conv", "attention/query", "attention/key", "head"]


def test_without_settings_every_layer_gets_the_step() -> None:
    step = Prune(0.5)
    assert select(step, NAMES) == dict.fromkeys(NAMES, step)


def test_the_last_matching_pattern_counts() -> None:
    found = select(Prune(0.5, layers={"block_*": {"sparsity": 0.9}, "block_2*": "skip", "head": {}}), NAMES)
    one, two, head = found["block_1_conv"], found["block_2_conv"], found["head"]
    assert one is not None
    assert one.sparsity == 0.9
    assert two is None
    assert head == Prune(0.5)


def test_a_pattern_for_a_layer_counts_for_its_parts() -> None:
    found = select(Prune(0.5, layers={"attention": "skip", "attention/key": {"sparsity": 0.1}}), NAMES)
    assert found["attention/query"] is None
    assert found["attention/key"] == Prune(0.1)


def test_a_setting_stands_in_for_its_alternatives() -> None:
    found = select(Factorize(energy=0.9, layers={"head": {"rank": 4}}), NAMES)
    assert found["head"] == Factorize(rank=4)
    pruned = select(Prune(0.7, layers={"head": {"pattern": "2:4"}}), NAMES)["head"]
    assert pruned is not None
    assert pruned.target == 0.5
    stored = select(QuantizeWeights(bits=4, layers={"head": {"scheme": "ternary"}}), NAMES)
    assert stored["head"] == QuantizeWeights("ternary")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            Prune(0.5, layers={"blok_*": "skip"}),
            "Prune.layers['blok_*'] matches no layer of this step; known: attention/key, attention/query, "
            "block_1_conv, block_2_conv, head",
        ),
        (
            Prune(0.5, layers={"attention/quer": "skip"}),
            "Prune.layers['attention/quer'] matches no layer of this step; did you mean 'attention/query'?",
        ),
        (
            Prune(0.5, layers={"head": {"sparsity": 80}}),
            "Prune.layers['head']: Prune.sparsity is a fraction in [0, 1), got 80; for 80 % write 0.8",
        ),
        (
            Prune(0.5, layers={"head": {"sparsity": "most"}}),
            "Prune.layers['head']: sparsity is 'most', expected a number",
        ),
        (
            Prune(0.5, scope="global", layers={"head": {"pattern": "2:4"}}),
            "Prune.layers['head']: Prune.scope is 'global', but '2:4' is a pattern of each kernel; use 'layer'",
        ),
        (
            Cluster(16, layers={"head": {"clusters": 1}}),
            "Cluster.layers['head']: Cluster.clusters must be a whole number, 2 or more, got 1",
        ),
        (
            Factorize(rank=3, layers={"head": {"energy": 50}}),
            "Factorize.layers['head']: Factorize.energy is a fraction in (0, 1], got 50; for 50 % write 0.5",
        ),
        (
            QuantizeWeights(layers={"head": {"bits": 9}}),
            "QuantizeWeights.layers['head']: QuantizeWeights.bits is 9, expected 2 to 8",
        ),
    ],
)
def test_what_does_not_fit_is_refused(step: Prune | Cluster | Factorize | QuantizeWeights, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select(step, NAMES)
    assert str(caught.value) == message


def model() -> keras.Model:
    x = keras.Input((4, 6), name="x")
    frozen = layers.Dense(6, name="frozen")
    outputs = layers.Dense(2, name="head")(layers.PReLU(name="rectified")(frozen(layers.Dense(6, name="first")(x))))
    frozen.trainable = False
    return keras.Model(x, outputs, name="mixed")


def unfit(kernel: Kernel, _own: Prune) -> str | None:
    return "too small" if kernel.size < 20 else None


def test_kernels_are_chosen_and_the_others_noted_with_the_reason() -> None:
    chosen, notes = select_kernels(Prune(0.5, layers={"first": {"sparsity": 0.7}}), model(), unfit)
    assert [(kernel.name, own.sparsity) for kernel, own in chosen] == [("first", 0.7)]
    assert notes == [
        Note("prune", "frozen", "frozen: its layer does not train"),
        Note("prune", "head", "too small"),
        Note("prune", "rectified", "its weight 'alpha' of shape (4, 6) is no kernel that this step knows"),
    ]


def test_no_kernel_to_work_on_is_an_error() -> None:
    with pytest.raises(ModelError) as caught:
        select_kernels(Prune(0.5, layers={"first": "skip"}), model(), unfit)
    assert str(caught.value) == (
        "step 'prune' finds no kernel in 'mixed' to work on (frozen: frozen: its layer does not train); "
        "leave the step out"
    )
