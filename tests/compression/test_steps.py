from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from edgekit.compression.steps import Distill, Prune, QuantizeAware, Step, parse_step, step_name, step_table
from edgekit.errors import ConfigError


@pytest.mark.parametrize("step", [Distill(width=0.5), Prune(0.8, schedule="constant"), QuantizeAware(epochs=3)])
def test_a_step_is_its_table(step: Step) -> None:
    table = step_table(step)
    assert table["step"] == step_name(step)
    assert parse_step(table, where="project.toml") == step


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
        (lambda: Prune(0.5, epochs=0), "Prune.epochs must be a whole number, 1 or more, got 0"),
        (lambda: Prune(0.5, learning_rate=0), "Prune.learning_rate must be above 0, got 0"),
        (lambda: Prune(0.5, batch_size=0), "Prune.batch_size must be above 0, got 0"),
        (
            lambda: Prune(0.5, schedule="polynomal"),  # type: ignore[arg-type]
            "Prune.schedule is 'polynomal'; did you mean 'polynomial'?",
        ),
        (
            lambda: QuantizeAware(engine="tfmott"),  # type: ignore[arg-type]
            "QuantizeAware.engine is 'tfmott'; did you mean 'tfmot'?",
        ),
        (lambda: Distill(), "Distill needs either a width or a student; give exactly one of them"),
        (lambda: Distill(width=0.5, student="a.keras"), "give exactly one of them"),
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
        ({"step": "prune"}, "p.toml: missing key 'sparsity'"),
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
