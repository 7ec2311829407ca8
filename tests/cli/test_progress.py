from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from edgekit.cli.progress import BarProgress


def test_bars_of_several_threads(capfd: pytest.CaptureFixture[str]) -> None:
    shown, meet = BarProgress(), Barrier(2, timeout=30)

    def work(name: str) -> None:
        for turn in range(2):
            with shown.task(f"{name} {turn}", 4) as advance:
                meet.wait()  # both are open now
                advance(4, "")
                meet.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ("first", "second")))
    told = capfd.readouterr().err
    assert all(f"{name} {turn}" in told for name in ("first", "second") for turn in range(2))
    assert "4/4" in told
