from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from edgekit.compression.steps import (
    Cluster,
    Distill,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    Step,
    parse_step,
    step_name,
    step_table,
)
from edgekit.errors import ConfigError


@pytest.mark.parametrize(
    "step",
    [
        Distill(width=0.5),
        Prune(0.8, schedule="constant", layers={"block_*": {"sparsity": 0.9}, "head": "skip"}),
        Prune(pattern="2:4"),
        PruneChannels(ratio=0.5),
        Cluster(32, initialization="density", preserve_sparsity=False),
        Factorize(energy=0.9),
        Factorize(max_parameters=1000, layers={"head": {"rank": 3}}),
        QuantizeAware(epochs=3),
        QuantizeWeights("ternary", epochs=2),
        QuantizeWeights(bits=4),
    ],
)
def test_a_step_is_its_table(step: Step) -> None:
    table = step_table(step)
    assert table["step"] == step_name(step)
    assert parse_step(table, where="project.toml") == step


def test_what_a_pattern_means() -> None:
    assert (Prune(pattern="2:4").kept_of, Prune(pattern="2:4").target) == ((2, 4), 0.5)
    assert Prune(pattern="1:4").target == 0.75
    assert (Prune(0.3, pattern="4x8").block, Prune(0.3, pattern="4x8").kept_of) == ((4, 8), None)
    assert (Prune(0.3).block, Prune(0.3).target) == ((1, 1), 0.3)
    assert (QuantizeWeights().code_bits, QuantizeWeights(bits=3).code_bits) == (8, 3)


def test_a_student_model_is_named_in_the_table() -> None:
    class Student:
        name = "small"

    assert step_table(Distill(student=Student()))["student"] == "small"
    assert step_table(Distill(student="small.keras"))["student"] == "small.keras"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prune(80), "Prune.sparsity is a fraction in [0, 1), got 80; for 80 % write 0.8"),
        (lambda: Prune(1.0), "Prune.sparsity is a fraction in [0, 1), got 1"),
        (lambda: Prune(-0.1), "Prune.sparsity is a fraction in [0, 1), got -0.1"),
        (lambda: Prune(float("nan")), "Prune.sparsity is a fraction in [0, 1), got nan"),
        (lambda: Prune(), "Prune.sparsity is missing; only a pattern such as '2:4' brings its own"),
        (lambda: Prune(0.5, epochs=-1), "Prune.epochs must be a whole number, 0 or more, got -1"),
        (lambda: Prune(0.5, epochs=float("nan")), "Prune.epochs must be a whole number, 0 or more, got nan"),  # type: ignore[arg-type]
        (lambda: Prune(0.6, pattern="2:4"), "Prune.sparsity is 0.6, but '2:4' makes it 0.5"),
        (lambda: Prune(pattern="4:4"), "Prune.pattern is '4:4': N of M are kept, so N is between 1 and M - 1"),
        (lambda: Prune(pattern="0:4"), "Prune.pattern is '0:4': N of M are kept, so N is between 1 and M - 1"),
        (lambda: Prune(0.5, pattern="0x4"), "Prune.pattern is '0x4': a block has at least one row and one column"),
        (
            lambda: Prune(0.5, pattern="blocks"),
            "Prune.pattern is 'blocks', expected 'unstructured', 'N:M' such as '2:4', or 'RxC'",
        ),
        (
            lambda: Prune(pattern="2:4", scope="global"),
            "Prune.scope is 'global', but '2:4' is a pattern of each kernel; use 'layer'",
        ),
        (
            lambda: Prune(0.5, importance="tailor"),  # type: ignore[arg-type]
            "Prune.importance is 'tailor'; did you mean 'taylor'?",
        ),
        (lambda: Prune(0.5, norm="l3"), "Prune.norm is 'l3'; known: l1, l2"),  # type: ignore[arg-type]
        (lambda: Prune(0.5, scope="all"), "Prune.scope is 'all'; known: global, layer"),  # type: ignore[arg-type]
        (
            lambda: Prune(0.5, layers={"head": {"epochs": 3}}),
            "Prune.layers['head']: unknown setting 'epochs'; known: pattern, sparsity",
        ),
        (
            lambda: Prune(0.5, layers={"head": "skipp"}),
            "Prune.layers['head'] is 'skipp', expected \"skip\" or a table of sparsity, pattern",
        ),
        (
            lambda: Prune(0.5, layers=["head"]),  # type: ignore[arg-type]
            'Prune.layers is [\'head\'], expected a table of name patterns, such as {"block_*": "skip"}',
        ),
        (lambda: Cluster(1), "Cluster.clusters must be a whole number, 2 or more, got 1"),
        (lambda: Cluster(16.5), "Cluster.clusters must be a whole number, 2 or more, got 16.5"),  # type: ignore[arg-type]
        (
            lambda: Cluster(initialization="kmeans"),  # type: ignore[arg-type]
            "Cluster.initialization is 'kmeans'; did you mean 'kmeans++'?",
        ),
        (lambda: Factorize(), "Factorize needs exactly one of energy, rank or max_parameters"),
        (lambda: Factorize(energy=0.9, rank=3), "Factorize needs exactly one of energy, rank or max_parameters"),
        (lambda: Factorize(energy=90), "Factorize.energy is a fraction in (0, 1], got 90; for 90 % write 0.9"),
        (lambda: Factorize(energy=0), "Factorize.energy is a fraction in (0, 1], got 0"),
        (lambda: Factorize(rank=0), "Factorize.rank must be a whole number, 1 or more, got 0"),
        (lambda: Factorize(max_parameters=0), "Factorize.max_parameters must be a whole number, 1 or more, got 0"),
        (lambda: QuantizeWeights(bits=9), "QuantizeWeights.bits is 9, expected 2 to 8"),
        (lambda: QuantizeWeights(bits=1), "QuantizeWeights.bits must be a whole number, 2 or more, got 1"),
        (
            lambda: QuantizeWeights("binary", bits=2),
            "QuantizeWeights.bits is 2, but 'binary' has its own; leave bits out",
        ),
        (
            lambda: QuantizeWeights("log"),  # type: ignore[arg-type]
            "QuantizeWeights.scheme is 'log'; known: binary, linear, logarithmic, ternary",
        ),
        (lambda: Prune(0.5, learning_rate=0), "Prune.learning_rate must be above 0, got 0"),
        (lambda: Prune(0.5, batch_size=0), "Prune.batch_size must be a whole number, 1 or more, got 0"),
        (
            lambda: Prune(0.5, schedule="polynomal"),  # type: ignore[arg-type]
            "Prune.schedule is 'polynomal'; did you mean 'polynomial'?",
        ),
        (
            lambda: QuantizeAware(engine="tfmott"),  # type: ignore[arg-type]
            "QuantizeAware.engine is 'tfmott'; did you mean 'tfmot'?",
        ),
        (
            lambda: Distill(),
            "Distill needs either a student, or width, depth or drop to make one; give one of them",
        ),
        (lambda: Distill(width=0.5, student="a.keras"), "give one of them"),
        (lambda: Distill(width=0), "Distill.width is a fraction in (0, 1), got 0"),
        (lambda: Distill(width=50), "Distill.width is a fraction in (0, 1), got 50; for 50 % write 0.5"),
        (lambda: Distill(width=0.5, weight=1.5), "Distill.weight is a fraction in [0, 1], got 1.5"),
        (lambda: Distill(width=0.5, temperature=0), "Distill.temperature must be above 0, got 0"),
    ],
)
def test_a_step_checks_itself(make: Callable[[], Step], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


def test_a_weight_of_one_is_taken() -> None:
    assert Distill(width=0.5, weight=1.0).weight == 1.0


def test_a_step_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Prune(0.5).sparsity = 0.9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"step": "prun", "sparsity": 0.5}, "p.toml: unknown step 'prun'; did you mean 'prune'?"),
        ({"sparsity": 0.5}, "p.toml: unknown step None"),
        ({"step": "prune"}, "p.toml: Prune.sparsity is missing; only a pattern such as '2:4' brings its own"),
        ({"step": "cluster", "clusters": "16"}, "p.toml: clusters is '16', expected a whole number"),
        ({"step": "cluster", "preserve_sparsity": 1}, "p.toml: preserve_sparsity is 1, expected true or false"),
        ({"step": "factorize"}, "p.toml: Factorize needs exactly one of energy, rank or max_parameters"),
        ({"step": "prune", "sparsity": 0.5, "layers": "head"}, "p.toml: layers is 'head', expected a table"),
        ({"step": "prune", "sparsity": 0.5, "epoch": 2}, "p.toml: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"step": "prune", "sparsity": 0.5, "epochs": 2.5}, "p.toml: epochs is 2.5, expected a whole number"),
        ({"step": "prune", "sparsity": 0.5, "engine": "kers"}, "p.toml: engine is 'kers'; did you mean 'keras'?"),
        ({"step": "prune", "sparsity": 80}, "p.toml: Prune.sparsity is a fraction in [0, 1), got 80"),
        ({"step": "distill", "width": "half"}, "p.toml: width is 'half', expected a number"),
        ({"step": "distill", "student": 7}, "p.toml: student is 7, expected a string"),
    ],
)
def test_a_wrong_table_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_step(table, where="p.toml")
    assert str(caught.value).startswith(message)


def test_a_student_that_keeps_its_weights_is_trained_gently() -> None:
    assert Distill(depth=0.5).starting_rate == Distill(drop=("block_*",)).starting_rate == 1e-3
    assert Distill(width=0.5).starting_rate == Distill(student="a.keras").starting_rate == 1e-2
    assert Distill(depth=0.5, learning_rate=0.1).starting_rate == 0.1
