"""A finished `.tflite` compiled ahead of time for a phone's NPU, by the vendor's compiler through ai-edge-litert.

The vendors' compilers come in packages of their own (`ai-edge-litert-sdk-…`), which download them while they are
installed; where they cannot, an empty package is installed all the same.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit import workers
from edgekit.errors import ConfigError, ConversionError, did_you_mean

_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Vendor:
    """Where ai-edge-litert keeps a vendor's part, and the distribution that brings the vendor's compiler."""

    package: str  # below ai_edge_litert.aot.vendors
    sdk: str


VENDORS = {
    "qualcomm": Vendor("qualcomm", "ai-edge-litert-sdk-qualcomm"),
    "mediatek": Vendor("mediatek", "ai-edge-litert-sdk-mediatek"),
    "google_tensor": Vendor("google_tensor", "ai-edge-litert-sdk-google-tensor"),
}


@dataclass(frozen=True)
class Npu:
    """One NPU: "qualcomm:SM8650"."""

    vendor: str  # of VENDORS
    soc: str  # as ai-edge-litert names it

    def __str__(self) -> str:
        return f"{self.vendor}:{self.soc}"


def parse_npu(text: str) -> Npu:
    """Read "VENDOR:SOC". Raises ConfigError."""
    vendor, _, soc = text.partition(":")
    if vendor not in VENDORS:
        raise ConfigError(f"npu is '{text}': no vendor '{vendor}'{did_you_mean(vendor, VENDORS)}")
    if not soc:
        raise ConfigError(f"npu is '{text}', expected VENDOR:SOC, for example qualcomm:SM8650")
    return Npu(vendor, soc)


def compile_for(npu: Npu, model: Path, output: Path) -> str:
    """Compile `model` and write `output`; what came of it, for the user.

    The result is read back as a FlatBuffer; nothing on this machine can run it. Raises ConfigError for a SoC that
    ai-edge-litert does not know, ConversionError that says what is missing when the compiler made nothing of use.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-npu-") as folder:
        reply = workers.call(
            "edgekit_tflite.npu_worker",
            {"model": str(model), "vendor": npu.vendor, "soc": npu.soc, "folder": folder},
            timeout_s=_TIMEOUT_S,
            what=f"compiling {model.name} for {npu}",
            error=ConversionError,
            environment={"TMPDIR": folder},  # where the compiler's log goes
        )
        shutil.copyfile(reply["compiled"], output)
    return f"compiled for {npu}: the NPU takes {reply['taken']}; not run here"
