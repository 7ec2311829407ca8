"""Parsers on text as devices print it."""

from __future__ import annotations

import pytest

from edgekit.devices import readings
from edgekit.devices.facts import parse_facts

ORIN_STATS = (
    "11-20-2024 15:50:10 RAM 2449/7620MB (lfb 2x1MB) SWAP 1/3810MB (cached 0MB) CPU [2%@729,0%@729,off,off,1%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] cpu@48.968C soc2@47.718C soc0@47.437C gpu@-256C tj@48.968C soc1@47.718C "
    "VDD_IN 4523mW/4523mW VDD_CPU_GPU_CV 482mW/482mW VDD_SOC 1407mW/1407mW"
)
NANO_STATS = (
    "RAM 1234/3964MB (lfb 300x4MB) CPU [10%@1479,5%@1479,3%@1479,2%@1479] GR3D_FREQ 0%@76 PLL@38C CPU@40.5C PMIC@100C "
    "POM_5V_IN 2345/2345 POM_5V_GPU 40/40 POM_5V_CPU 321/321"
)
THERMAL_SERVICE = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 3
Cached temperatures:
\tTemperature{mValue=41.5, mType=3, mName=skin, mStatus=0}
HAL Ready: true
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  level: 85
  voltage: 4123
  temperature: 301
  technology: Li-ion
"""
PHONE = """
@@ thermal
soc_thermal 45200
@@ cpufreq
cpu0 scaling_governor schedutil
cpu0 scaling_cur_freq 1100000
cpu0 cpuinfo_max_freq 1803000
cpu10 scaling_governor performance
cpu2 scaling_governor schedutil
@@ thermalservice
Thermal Status: 1
HAL Ready: true
@@ battery
  temperature: 301
@@ uname
Linux 5.10.149-android13 aarch64
@@ cpuinfo
processor\t: 0
Features\t: fp asimd asimddp i8mm
processor\t: 1
Features\t: fp asimd asimddp i8mm
@@ meminfo
MemTotal:        7654321 kB
MemAvailable:    3210000 kB
@@ df
Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/fuse        113935360 40012345  73922015      36% /storage/emulated
@@ getprop
[ro.board.platform]: [gs201]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 7]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [GS201]
@@ nodes
mali0
@@ python
"""
JETSON = """
@@ nvpmodel
NV Power Mode: 15W
0
@@ uname
Linux 5.15.148-tegra aarch64
@@ os_release
PRETTY_NAME="Ubuntu 22.04.5 LTS"
VERSION_ID="22.04"
ID=ubuntu
@@ nv_tegra_release
# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025
@@ model
NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super
@@ compatible
nvidia,p3768-0000+p3767-0005-super
nvidia,tegra234
@@ packages
libnvinfer10 10.3.0.30-1+cuda12.5
libnvinfer8\x20
nvidia-jetpack 6.2.1+b38
tensorrt 10.3.0.30-1+cuda12.5
@@ nodes
nvhost-gpu
nvhost-nvdla0
@@ python
{"version": "3.10.12", "implementation": "CPython", "libc": ["glibc", "2.35"], "packages": {"numpy": "1.26.4"}}
"""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "35.4.1"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464", "38.2.0"),
        ("", None),
        ("# R36 (release)", None),
    ],
)
def test_jetson_linux(text: str, version: str | None) -> None:
    assert readings.l4t(text) == version


def test_device_tree_texts_end_with_nul() -> None:
    assert readings.texts("nvidia,p3768-0000\0nvidia,tegra234\0") == ("nvidia,p3768-0000", "nvidia,tegra234")
    assert readings.texts("Raspberry Pi 5 Model B Rev 1.0\n") == ("Raspberry Pi 5 Model B Rev 1.0",)
    assert readings.texts("\0") == ()


@pytest.mark.parametrize(
    ("text", "mode"),
    [("NV Power Mode: 15W\n0\n", "15W"), ("NV Fan Mode:quiet\nNV Power Mode: MODE_10W\n1", "10W"), ("error", None)],
)
def test_power_mode(text: str, mode: str | None) -> None:
    assert readings.power_mode(text) == mode


def test_tegrastats_of_an_orin_and_of_an_older_board() -> None:
    orin = readings.tegrastats(f"earlier line\n{ORIN_STATS}\n")
    assert orin["tj_celsius"] == 48.968
    assert "gpu_celsius" not in orin, "-256 is a sensor that is off"
    assert (orin["vdd_in_mw"], orin["vdd_cpu_gpu_cv_mw"]) == (4523, 482)
    nano = readings.tegrastats(NANO_STATS)
    assert (nano["cpu_celsius"], nano["pom_5v_in_mw"], nano["pom_5v_cpu_mw"]) == (40.5, 2345, 321)
    assert readings.tegrastats("") == {}


def test_thermal_zones() -> None:
    text = "cpu-thermal 48968\ntj-thermal -256000\ncpu-thermal 50000\nbroken\nzone x\n"
    assert readings.temperatures(text) == {"cpu-thermal": 48.968, "cpu-thermal-2": 50.0}


def test_androids_words_on_heat() -> None:
    assert readings.thermal_status(THERMAL_SERVICE) == 3
    assert readings.thermal_status(THERMAL_SERVICE.replace("HAL Ready: true", "HAL Ready: false")) is None
    assert readings.thermal_status("Can't find service: thermalservice") is None
    assert readings.battery_celsius(BATTERY) == 30.1
    assert readings.battery_celsius("") is None


@pytest.mark.parametrize(
    ("text", "held"), [("throttled=0x0", False), ("throttled=0x50000", False), ("throttled=0x50005", True), ("", None)]
)
def test_what_a_raspberry_pi_holds_down(text: str, held: bool | None) -> None:
    assert readings.throttled(text) is held


def test_storage() -> None:
    text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/root 61000000 20000000 38000000 35% /\n"
    assert readings.storage(text) == (61000000 << 10, 38000000 << 10)
    assert readings.storage("df: .: No such file") is None


def test_gpus_and_packages() -> None:
    assert readings.gpus("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n") == ("NVIDIA H100 80GB HBM3",)
    assert readings.upstream("10.3.0.30-1+cuda12.5") == "10.3.0"
    assert readings.upstream("6.2+b77") == "6.2"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_phone(newline: str) -> None:
    facts = parse_facts(PHONE.replace("\n", newline))
    assert (facts.model, facts.soc, facts.os) == ("Google Pixel 7", "Google GS201", "Android 14 (SDK 34)")
    assert (facts.machine, facts.cpus, facts.accelerators) == ("aarch64", 2, ("Mali GPU",))
    assert "i8mm" in facts.cpu_features
    assert facts.memory_bytes == 7654321 << 10
    assert facts.storage_free_bytes == 73922015 << 10
    state = facts.state
    assert (state.status, state.battery_celsius, state.hottest_celsius) == (1, 30.1, 45.2)
    assert state.governors == ("schedutil", "performance"), "cpu2 comes before cpu10"
    assert (state.frequencies_hz, state.limits_hz) == ((1_100_000_000,), (1_803_000_000,))
    assert (facts.python, facts.l4t, facts.emulated) == (None, None, None)


def test_a_jetson() -> None:
    facts = parse_facts(JETSON)
    assert facts.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (facts.l4t, facts.jetpack, facts.tensorrt) == ("36.4.4", "6.2.1", "10.3.0")
    assert (facts.soc, facts.accelerators) == ("tegra234", ("Tegra GPU", "NVIDIA DLA"))
    assert facts.state.power_mode == "15W"
    assert facts.python is not None
    assert facts.python.libc == ("glibc", "2.35")
    by_release = parse_facts(JETSON.replace("nvidia-jetpack 6.2.1+b38\n", ""))
    assert by_release.jetpack == "6.2.1", "without its package, by Jetson Linux's version"


def test_what_says_nothing_is_unknown() -> None:
    facts = parse_facts("")
    assert (facts.model, facts.memory_bytes, facts.cpus, facts.python) == (None, None, None, None)
    assert facts.state.hottest_celsius is None
    assert facts.state.governors == ()
