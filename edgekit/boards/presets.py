"""What a virtual board says it is. Identity alone: nothing that a real one measures or runs is imitated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MARKER = "etc/edgekit-virtual-board"  # by this file probes know that it is none of metal
VIRTUAL = "linux,dummy-virt"  # what QEMU's own device tree says; it stays the last of `compatible`


@dataclass(frozen=True)
class Preset:
    """Texts that identify a board."""

    model: str | None = None  # /proc/device-tree/model; None leaves QEMU's
    compatible: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # path -> text


PRESETS: Mapping[str, Preset] = {
    "plain": Preset(),
    "jetson-orin-nano": Preset(
        "NVIDIA Jetson Orin Nano Developer Kit",
        ("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
        {
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
            "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
        },
    ),
    "raspberry-pi-5": Preset(
        "Raspberry Pi 5 Model B Rev 1.0",
        ("raspberrypi,5-model-b", "brcm,bcm2712"),
        {"etc/rpi-issue": "Raspberry Pi reference 2024-11-19\n"},
    ),
}
