"""A build for RTX GPUs: one engine for all of them, measured as the ONNX file that it was built from."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.conversion import Artifact
from edgekit.measuring import MEASURED_INSTEAD, describe
from edgekit.planning import PlannedVariant
from tests.conftest import Digits

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "{model}"
[data]
calibration = "{train}"
evaluation = "{test}"
metric = "top1"
[convert.tensorrt]
optimization_level = 2
[targets.rtx-4090]
precision = ["int8"]
[targets.rtx-3090]
precision = ["int8"]
"""


def test_what_is_measured_instead_is_no_engine(tmp_path: Path) -> None:
    """An engine is not opened without a signature; the ONNX file that it was built from is opened."""
    path = tmp_path / "x.onnx"
    path.write_bytes(b"an ONNX file")
    stand_in = Artifact("onnx", "fp16", path, engine="onnxruntime", engine_least_version="1.16", inputs=(), outputs=())
    assert describe(PlannedVariant("tensorrt", "fp16", ("rtx-4090",), ()), stand_in, ()).format == "onnx"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_a_build_for_rtx_gpus(digits: Digits, tmp_path: Path) -> None:
    project = tmp_path / "digits.toml"
    project.write_text(PROJECT.format(model=digits.model, train=digits.train_file, test=digits.test_file))
    assert main(["build", str(project), "-o", str(tmp_path / "out")]) == 0
    (variant,) = json.loads((tmp_path / "out" / "report.json").read_text())["variants"]
    assert (variant["id"], variant["targets"], variant["engine"], variant["median_ms"]) == (
        "tensorrt-int8", ["rtx-4090", "rtx-3090"], "tensorrt-rtx", None,
    )  # fmt: skip
    assert variant["metric"] > 0.5
    assert MEASURED_INSTEAD in variant["notes"]
    built = next(note for note in variant["notes"] if note.startswith("built by TensorRT-RTX"))
    assert " for SM89, SM86: " in built
    assert built.endswith("planned as Int8")
    with Bundle.open(tmp_path / "out" / "digits-1.0.0.edgekit") as bundle:
        bundle.verify()
        assert bundle.manifest.variants[0].member.path == "tensorrt-int8.engine"
