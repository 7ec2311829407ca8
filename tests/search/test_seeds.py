from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.search.heat_map import write_heat_map
from edgekit.search.seeds import borne, seeds
from edgekit.search.sensitivity import Cell, Sensitivity
from edgekit.search.space import Space

SPACE = Space(
    ("int8", "fp16"),
    {
        "channels": {"first": ("first",), "last": ("last",)},
        "energy": {"last": ("last",)},
        "kept": {"first": ("first",), "last": ("last",)},
    },
    ("fp32", "int4-weights"),
    {"first": ("first",), "last": ("last",)},
)
LOSSES = {
    ("first", "channels"): {0.25: 0.1, 0.5: 0.5, 0.75: 2.0},
    ("last", "channels"): {0.25: 0.0, 0.5: 0.01, 0.75: 0.05},
    ("last", "energy"): {0.95: 0.0, 0.9: 0.2, 0.8: 0.3},
    ("first", "int8"): {None: 0.3},
    ("last", "int8"): {None: 0.0},
    ("first", "int4"): {None: 0.4},
    ("last", "int4"): {None: 0.1},
}
TABLE = Sensitivity(
    "edgekit-sensitivity", 1, "m", "0", 10, 1.0, 100,
    tuple(
        Cell(layer, method, level, 1 + value, value, 90)
        for (layer, method), levels in LOSSES.items()
        for level, value in levels.items()
    ),
)  # fmt: skip


def test_layers_are_cut_as_far_as_they_bear() -> None:
    assert borne(SPACE, TABLE, "channels", 50) == {"channels/first": 0.0, "channels/last": 0.75}
    assert borne(SPACE, TABLE, "channels", 90) == {"channels/first": 0.5, "channels/last": 0.75}
    assert borne(SPACE, TABLE, "energy", 50) == {"energy/last": 0.9}
    assert borne(SPACE, TABLE, "energy", 0) == {"energy/last": 0.95}
    assert borne(SPACE, TABLE, "sparsity", 50) == {}


def test_the_first_trials() -> None:
    found = seeds(SPACE, TABLE, 100)
    assert found[0] == SPACE.neutral()
    assert {**SPACE.neutral(), "channels/first": 0.5, "channels/last": 0.5} in found
    assert {**SPACE.neutral(), "precision": "fp16"} in found
    assert any(item["kept/first"] == "fp32" and item["kept/last"] == "int4-weights" for item in found)
    assert all(item not in found[:index] for index, item in enumerate(found)), "none twice"
    assert all(set(item) == set(SPACE.dimensions) for item in found)


def test_the_table_as_a_picture(tmp_path: Path) -> None:
    holes = replace(TABLE, cells=(*TABLE.cells, Cell("head", "channels", 0.5, reason="they are an output")))
    for name in ("a.svg", "b.svg", "c.png"):
        write_heat_map(holes, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("first", "last", "head", "0.05", "2", "int8"))


def test_the_sampler_has_its_share() -> None:
    assert len(seeds(SPACE, TABLE, 8)) == 4
    assert seeds(SPACE, TABLE, 8)[0] == SPACE.neutral()
