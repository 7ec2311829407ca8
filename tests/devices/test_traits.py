from __future__ import annotations

import pytest

from edgekit.devices.facts import parse_facts
from edgekit.devices.local import LocalTransport
from edgekit.devices.traits import Traits, make_traits, read_traits
from edgekit.runtime.engines import EngineStatus
from edgekit.runtime.survey import Probe, probe

LITERT = EngineStatus("litert", "ai-edge-litert", "2.1.6", "", True)
MISSING = EngineStatus("onnxruntime", None, None, "pip install onnxruntime", True)
TENSORRT = EngineStatus("tensorrt", "tensorrt", "10.3.0", "", True)
NO_GPU = EngineStatus("tensorrt", "tensorrt", "10.3.0", "", True, "no GPU")
UNAME = "@@ uname\nLinux 5.15.148-tegra aarch64\n"
BOARD = f"""{UNAME}@@ meminfo
MemTotal:        7802860 kB
@@ df
/dev/mmcblk0p1 2097152 1048576 1048576 50% /
@@ model
NVIDIA Jetson Orin Nano Developer Kit
"""
X86 = "@@ cpuinfo\nprocessor\t: 0\nvendor_id\t: GenuineIntel\n"


def traits(told: str = BOARD, *engines: EngineStatus, url: str = "ssh://nano") -> Traits:
    return make_traits(url, Probe("Linux", "aarch64", 6, "3.10.12", "1.26.4", (LITERT, *engines)), parse_facts(told))


def test_a_board() -> None:
    found = traits(BOARD, MISSING, TENSORRT)
    assert (found.engines, found.accelerators) == (("litert", "tensorrt"), ("cpu", "gpu"))
    assert (found.memory_mib, found.storage_mib) == (7619, 1024)
    assert found.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (found.emulated, found.simulated) == (None, None)


def test_an_engine_that_runs_nothing_there_is_none() -> None:
    assert traits(BOARD, NO_GPU).accelerators == ("cpu",)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (BOARD + "@@ virtual\n", "it is a virtual board under QEMU"),
        (BOARD + "@@ compatible\nnvidia,tegra234\nlinux,dummy-virt\n", "it is a virtual board under QEMU"),
        (UNAME + "@@ getprop\n[ro.kernel.qemu]: [1]\n", "it is Android's emulator"),
        (UNAME + "@@ getprop\n[ro.boot.qemu]: [1]\n", "it is Android's emulator"),
        (UNAME + "@@ getprop\n[ro.boot.qemu]: []\n", None),
        (UNAME + X86, "its programs run under qemu-user"),
        ("@@ uname\nLinux 6.1.0 x86_64\n" + X86, None),
        (BOARD, None),
        ("", None),
    ],
)
def test_what_is_emulated(told: str, reason: str | None) -> None:
    found = traits(told)
    assert found.emulated == found.simulated == reason


def test_this_machine_is_simulated_and_not_emulated(local_device: LocalTransport) -> None:
    found = read_traits(local_device, probe())
    assert (found.emulated, found.simulated) == (None, "local: is this machine")
    assert found.memory_mib is not None
    assert found.memory_mib > 100
    assert found.storage_mib is not None
    assert "litert" in found.engines
