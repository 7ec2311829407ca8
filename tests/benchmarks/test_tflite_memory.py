"""Calibration and quantization stay within three times the float size, beyond the libraries themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import tflite_memory
from examples.study import Notebook

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
def test_int8_of_a_large_layer(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "figures.json")
    tflite_memory.bare(notebook)
    tflite_memory.measure(notebook, 20, only=("edgekit convert .keras", "edgekit convert .tflite"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    bound = 3 * 4 * figures["20 M, parameters"] / (1 << 20)
    libraries = figures["bare TensorFlow and Keras"]["peak_mib"] + figures["bare litert-quantizer"]["peak_mib"]
    for phase in ("calibrate_worker", "quantize_worker"):
        assert figures["20 M, edgekit convert .keras"][phase] - libraries < bound
        assert figures["20 M, edgekit convert .tflite"][phase] - figures["bare litert-quantizer"]["peak_mib"] < bound
