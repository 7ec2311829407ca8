from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest

from edgekit.admission import Admission, available_bytes


class Crowd:
    """Counts who is in."""

    def __init__(self) -> None:
        self.lock, self.inside, self.most = Lock(), 0, 0

    def visit(self, admission: Admission, cost: int) -> None:
        with admission.admit(cost):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.02)
            with self.lock:
                self.inside -= 1


@pytest.mark.parametrize(("cost", "most"), [(30, 3), (50, 2), (51, 1), (1000, 1)])
def test_work_goes_on_side_by_side_as_far_as_memory_goes(cost: int, most: int) -> None:
    crowd, admission = Crowd(), Admission(100)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(12):
            pool.submit(crowd.visit, admission, cost)
    assert (crowd.most, crowd.inside) == (most, 0)


def test_a_failure_makes_room() -> None:
    admission = Admission(100)
    with pytest.raises(ZeroDivisionError), admission.admit(100):
        raise ZeroDivisionError
    with admission.admit(100):
        pass


def test_there_is_memory_here() -> None:
    assert available_bytes() > 1 << 20
