"""A plugin for the pytest that `edgekit test` starts (PYTEST_PLUGINS): the gate's processes take made-up times.

`$MADE_UP` is the slowdown of version 1.1.0 over 1.0.0, and the spread between processes: "0.1,0.02".
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from edgekit.devices.deploy import ZipappBundle
from edgekit.runtime.survey import BenchReply
from tests.gate_fakes import MadeUp


@pytest.fixture(scope="session", autouse=True)
def made_up_times() -> Any:
    """The gate alone says on how many threads; every other measurement is left as it is."""
    slowdown, spread = map(float, os.environ["MADE_UP"].split(","))
    sides = {"1.0.0": MadeUp(10.0, spread=spread), "1.1.0": MadeUp(10.0 * (1 + slowdown), spread=spread, seed=1)}
    real = ZipappBundle.bench

    def bench(self: ZipappBundle, variant: str | None = None, **options: Any) -> BenchReply:
        if "threads" not in options:
            return real(self, variant, **options)
        return sides[self.manifest.version].bench(variant, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZipappBundle, "bench", bench)
        yield
