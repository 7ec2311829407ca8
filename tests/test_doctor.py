from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

import pytest
import tomllib

from edgekit import doctor
from edgekit.doctor import PARTS, examine


def test_what_is_installed_works() -> None:
    findings = {finding.part: finding for finding in examine()}
    assert findings["load and compress"].works
    assert findings["load and compress"].remedy is None
    assert set(findings["load and compress"].packages) == {"keras", "tensorflow"}


def test_what_is_missing_gets_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PARTS", {"fly": ("wings", ("numpy", "no-such-distribution"))})
    (finding,) = examine()
    assert not finding.works
    assert finding.packages["numpy"] is not None
    assert finding.packages["no-such-distribution"] is None
    assert finding.remedy == 'pip install "edgekit[wings]"'


def test_every_part_names_an_extra_that_exists() -> None:
    pyproject = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    assert {extra for extra, _ in PARTS.values()} <= set(pyproject["project"]["optional-dependencies"])


def test_every_package_is_required_by_its_extra() -> None:
    required = " ".join(requires("edgekit") or ()).lower().replace("_", "-")
    for _, packages in PARTS.values():
        for package in packages:
            assert package.lower().replace("_", "-") in required, package
