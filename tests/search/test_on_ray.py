"""Trials on two Ray nodes of this machine, of which one dies in mid-trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ConfigError
from edgekit.progress import LoggedProgress
from edgekit.search.on_ray import OBJECT_STORE_BYTES, RayPool, parcel
from edgekit.search.pools import LocalPool
from edgekit.search.searching import find_recipe
from edgekit.search.space import make_space
from edgekit.search.subject import Subject
from edgekit.search.trials import BUNDLE, Job, job_key
from tests.conftest import Digits
from tests.search.conftest import write_project

ray = pytest.importorskip("ray", reason='pip install "edgekit[ray]"')

RATIOS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625)
PATIENCE_S = 300.0


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.other = made.add_node(**node)  # type: ignore[attr-defined]
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_no_trial_is_lost_and_none_comes_twice_when_a_node_dies(cluster: Any, subject: Subject, tmp_path: Path) -> None:
    space = make_space(subject.model.model, subject.precisions, subject.format, subject.project.search)
    recipes = [space.recipe({**space.neutral(), "channels/conv": ratio}, 0) for ratio in RATIOS]
    jobs = {job_key(subject, Job(recipe, 0)): Job(recipe, 0) for recipe in recipes}
    assert len(jobs) == len(RATIOS)
    killed = threading.Event()
    killer = threading.Thread(target=_kill_when_busy, args=(cluster, killed), daemon=True)
    killer.start()
    with RayPool(subject, None) as pool:
        came = list(pool.run(jobs))
    killer.join(PATIENCE_S)
    assert killed.is_set()
    assert sorted(key for key, _ in came) == sorted(jobs)
    (key, job), *_ = jobs.items()
    ((_, here),) = LocalPool(subject, tmp_path, LoggedProgress()).run({key: job})
    there = dict(came)[key]
    assert there.outcome.metric == here.outcome.metric
    assert there.outcome.bytes == here.outcome.bytes
    assert set(there.files) == {BUNDLE}


def _kill_when_busy(cluster: Any, killed: threading.Event) -> None:
    """Kill the second node, without grace, while it runs a trial."""
    from ray._private.state import available_resources_per_node

    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        free = available_resources_per_node().get(cluster.other.node_id)
        if free is not None and not free.get("CPU"):
            time.sleep(2.0)  # so that it is well inside the trial
            cluster.remove_node(cluster.other, allow_graceful=False)
            killed.set()
            return
        time.sleep(0.1)


def test_a_parcel_has_all_that_a_project_reads(subject: Subject) -> None:
    packed = parcel(subject)
    assert set(packed.files) == {"digits.keras", "train.npz", "calibration.npz", "evaluation.npz"}
    assert packed.project.model == Path("digits.keras")
    assert packed.key == subject.identity


def test_an_address_without_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'address is 10\.0\.0\.1:6379, .* set workers = "ray" \(--workers ray\)'):
        find_recipe(tmp_path / "project.toml", tmp_path, address="10.0.0.1:6379")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_a_cluster_that_is_not_there_is_said_before_the_work(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("edgekit.search.searching.measure_sensitivity", lambda *_: pytest.fail("it worked first"))
    with pytest.raises(ConfigError, match=f"no Ray at {address}: .*; is it started there"):
        find_recipe(write_project(digits, tmp_path), tmp_path / "out", workers="ray", address=address)


def test_unknown_workers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers is 'rya'; did you mean 'ray'\?"):
        find_recipe(tmp_path / "project.toml", tmp_path, workers="rya")
