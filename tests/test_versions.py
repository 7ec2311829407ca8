from __future__ import annotations

import pytest

from edgekit.versions import version_key


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.4.0", "2.3.0"),
        ("2.9", "2.10"),
        ("1.20", "1.20.1"),
        ("0 (no package metadata)", "1.0"),
        ("2.16", "2.17.0rc1"),
    ],
)
def test_versions_in_order(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


@pytest.mark.parametrize(("one", "other"), [("1.4", "1.4.0"), ("2.16.1+nv24.8", "2.16.1")])
def test_versions_that_are_equal(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)
