"""A plugin for the pytest that `edgekit test` starts (PYTEST_PLUGINS): one suite alone, `$ONLY_SUITE`."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if item.path.name == os.environ["ONLY_SUITE"]]
