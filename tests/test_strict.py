from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from edgekit.errors import BundleError, ConfigError
from edgekit.strict import parse


@dataclass(frozen=True)
class Limits:
    memory_mib: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.ratio > 1:
            raise ConfigError(f"ratio is {self.ratio}, expected at most 1")


@dataclass(frozen=True)
class Board:
    name: str
    limits: Limits
    fast: bool = False
    mode: Literal["slow", "quick"] = "slow"
    cores: tuple[int, ...] = ()
    range: tuple[float, float] | None = None
    extra: Mapping[str, Limits] = field(default_factory=dict)
    folder: Path | None = None


LEAST: Mapping[str, object] = {"name": "pi5", "limits": {"memory_mib": 4}}


def test_tables_become_dataclasses() -> None:
    table = {**LEAST, "cores": [0, 1], "range": [0, 1.5], "extra": {"npu": {"memory_mib": 2, "ratio": 1}}}
    table["folder"] = "boards/pi5"
    board = parse(Board, table, where="pi5.toml")
    extra = {"npu": Limits(2, 1.0)}
    assert board == Board("pi5", Limits(4), False, "slow", (0, 1), (0.0, 1.5), extra, Path("boards/pi5"))
    assert board.range is not None
    assert isinstance(board.range[0], float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "pi5.toml: unknown key 'nmae'; did you mean 'name'?"),
        (
            {"limits": {"memroy_mib": 4}},
            "pi5.toml: unknown key 'memroy_mib' in [limits]; did you mean 'memory_mib'?",
        ),
        (
            {"extra": {"npu": {"memory_mib": 1, "zzz": 1}}},
            "pi5.toml: unknown key 'zzz' in [extra.npu]; known: memory_mib, ratio",
        ),
        ({"limits": {}}, "pi5.toml: missing key 'memory_mib' in [limits]"),
        ({"limits": 3}, "pi5.toml: limits is 3, expected a table"),
        ({"limits": {"memory_mib": "4"}}, "pi5.toml: limits.memory_mib is '4', expected a whole number"),
        ({"limits": {"memory_mib": 4.5}}, "pi5.toml: limits.memory_mib is 4.5, expected a whole number"),
        ({"limits": {"memory_mib": True}}, "pi5.toml: limits.memory_mib is True, expected a whole number"),
        ({"limits": {"memory_mib": 1, "ratio": 2}}, "pi5.toml: ratio is 2.0, expected at most 1"),
        ({"name": 5}, "pi5.toml: name is 5, expected a string"),
        ({"fast": 1}, "pi5.toml: fast is 1, expected true or false"),
        ({"mode": "quik"}, "pi5.toml: mode is 'quik'; did you mean 'quick'?"),
        ({"cores": 4}, "pi5.toml: cores is 4, expected a list"),
        ({"cores": [1, "2"]}, "pi5.toml: cores[1] is '2', expected a whole number"),
        ({"range": [1]}, "pi5.toml: range is [1], expected a list of 2"),
        ({"extra": []}, "pi5.toml: extra is [], expected a table"),
    ],
)
def test_a_mistake_is_named(change: Mapping[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Board, {**LEAST, **change}, where="pi5.toml")
    assert str(caught.value) == message


def test_the_caller_chooses_the_error() -> None:
    with pytest.raises(BundleError, match=r"^manifest.json: the top level is \[\], expected a table$"):
        parse(Board, [], where="manifest.json", error=BundleError)
    with pytest.raises(BundleError, match=r"ratio is"):
        parse(Limits, {"memory_mib": 1, "ratio": 3}, where="manifest.json", error=BundleError)


def test_optional_is_null_or_the_type() -> None:
    assert parse(Board, {**LEAST, "range": None}, where="x").range is None
    with pytest.raises(ConfigError, match=r"name is None, expected a string"):
        parse(Board, {**LEAST, "name": None}, where="x")
