"""What is attached to this machine: a finder for each way to a device, each giving device URLs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgekit.boards import list_boards
from edgekit.devices import opened_device
from edgekit.devices.adb_client import attached_phones
from edgekit.devices.facts import DeviceFacts, probe_facts
from edgekit.devices.local import HERE
from edgekit.errors import EdgekitError

SIDE_BY_SIDE = 8


@dataclass(frozen=True)
class Probed:
    """One device: its facts, or why there are none."""

    url: str
    facts: DeviceFacts | None
    problem: EdgekitError | None


def _local() -> list[str]:
    return [HERE]


def _boards() -> list[str]:
    """Virtual boards that were started; one that died is told, too."""
    return [board.url for board in list_boards() if board.state != "stopped"]


def _phones() -> list[str]:
    """What adb lists, less the virtual boards among it, which are told as such."""
    boards = {f"adb:{board.adb_serial}" for board in list_boards()}
    return [url for url in attached_phones() if url not in boards]


FINDERS: Mapping[str, Callable[[], list[str]]] = {"local": _local, "board": _boards, "adb": _phones}


def attached() -> list[str]:
    """URLs of all devices that can be found without being named; boards over ssh cannot."""
    return [url for find in FINDERS.values() for url in find()]


def probe_each(urls: Iterable[str]) -> list[Probed]:
    """Ask devices what they are, side by side; one that fails is told, and the others are done."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(_probe, urls))


def _probe(url: str) -> Probed:
    try:
        with opened_device(url) as device:
            return Probed(url, probe_facts(device), None)
    except EdgekitError as problem:
        return Probed(url, None, problem)
