from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekit import doctor
from edgekit.doctor import PARTS

Run = Callable[..., Any]


def test_every_part_is_reported(edgekit: Run) -> None:
    ended = edgekit("doctor", "--json")
    assert ended.exit_code == 0
    assert [part["part"] for part in ended.json["parts"]] == list(PARTS)
    assert all(part["works"] is (part["remedy"] is None) for part in ended.json["parts"])
    assert {"edgekit", "python", "machine"} <= set(ended.json)


def test_what_is_missing_is_shown_with_its_remedy(edgekit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PARTS", {"fly": ("wings", ("no-such-distribution",)), "count": ("x", ("numpy",))})
    lines = edgekit("doctor").stdout.splitlines()
    assert any(line.split()[:2] == ["fly", "no"] and 'pip install "edgekit[wings]"' in line for line in lines)
    assert any(line.split()[:3] == ["count", "yes", "numpy"] for line in lines)
