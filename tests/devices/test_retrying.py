from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.devices import retrying
from edgekit.devices.retrying import ATTEMPTS, retried
from edgekit.errors import DeviceFullError, LinkError, OfflineError


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "WAIT_S", 0.0)


class Work:
    """Fails as it is told, then is done."""

    def __init__(self, *failures: type[Exception]) -> None:
        self.times = 0
        self._failures: Iterator[type[Exception]] = iter(failures)

    def __call__(self) -> str:
        self.times += 1
        failure = next(self._failures, None)
        if failure is not None:
            raise failure("no")
        return "done"


def test_a_broken_link_is_tried_again_until_it_holds() -> None:
    mended: list[int] = []
    work = Work(LinkError, OfflineError, LinkError)
    assert retried(work, first=lambda: mended.append(work.times)) == "done"
    assert mended == [1, 2, 3]


@pytest.mark.parametrize(
    ("failures", "times"),
    [
        ((OfflineError,), 1),
        ((DeviceFullError,), 1),
        ((LinkError, DeviceFullError), 2),
        ((LinkError,) + (OfflineError,) * (ATTEMPTS - 1), ATTEMPTS),
        ((LinkError,) * ATTEMPTS, ATTEMPTS),
    ],
)
def test_what_is_not_tried_again(failures: tuple[type[Exception], ...], times: int) -> None:
    """A device that was never reached, what is no trouble of the link, and a link that stays broken."""
    work = Work(*failures)
    with pytest.raises(failures[-1]):
        retried(work)
    assert work.times == times
