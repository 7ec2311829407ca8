from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit.conversion import Source, find_converter
from edgekit.tensors import TensorSpec

INPUTS = {
    "classifier": ("image",), "grouped": ("image",), "pair": ("b_left", "a_right"), "unsupported": ("x",),
    "mixing": ("x",),
}  # fmt: skip
OUTPUTS = {
    "classifier": ("probabilities",), "grouped": ("scores",), "pair": ("z_score", "a_sum"), "unsupported": ("y",),
    "mixing": ("y",),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model on its way to a converter, with samples and the outputs of its float and its simulated form."""

    source: Source
    inputs: dict[str, np.ndarray]
    float_outputs: dict[str, np.ndarray]
    trained_outputs: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "saved"
    argv = [sys.executable, str(Path(__file__).with_name("make_models.py")), str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def case(models, tmp_path_factory):
    """`case(name)`: one of the models that make_models.py writes."""

    @cache
    def load(name):
        with np.load(models / name / "reference.npz") as stored:
            arrays = dict(stored)
        pick = lambda kind, names: {key: arrays[f"{kind}/{key}"] for key in names}  # noqa: E731
        inputs, outputs = pick("inputs", INPUTS[name]), pick("float", OUTPUTS[name])
        source = Source(
            name,
            _specs(inputs),
            _specs(outputs),
            models / name / "float",
            models / name / "trained",
            tmp_path_factory.mktemp(name),
        )
        return Case(source, inputs, outputs, pick("trained", OUTPUTS[name]))

    return load


@pytest.fixture(scope="session")
def untrained(case):
    """The same without trained ranges: a model for post-training quantization."""
    return lambda name: replace(case(name), source=replace(case(name).source, trained_model=None))


@pytest.fixture(scope="session")
def converted(case, untrained, tmp_path_factory):
    """`converted(format, name, precision, trained=False)`: the artifact, made once."""
    folder = tmp_path_factory.mktemp("converted")

    @cache
    def convert(format_name, name, precision, trained=False):
        given = case(name) if trained else untrained(name)
        converter = find_converter(format_name)
        output = folder / f"{name}-{precision}-{'trained' if trained else 'float'}{converter.suffix}"
        calibration = None if trained else given.inputs
        return converter.convert(given.source, precision=precision, calibration=calibration, output=output)

    return convert


@pytest.fixture
def made(tmp_path):
    """`made(case, precision, **settings)`: the `.tflite` artifact."""
    converter = find_converter("tflite")

    def convert(given, precision="int8", name="made", **settings):
        return converter.with_options(settings, where="settings").convert(
            given.source, precision=precision, calibration=given.inputs, output=tmp_path / f"{name}.tflite"
        )

    return convert


@pytest.fixture(scope="session")
def snr_db():
    """Signal-to-noise ratio of `actual` against `expected`, in dB."""

    def measure(expected, actual):
        noise = np.sum(np.square(expected - actual))
        return 10 * np.log10(np.sum(np.square(expected)) / max(noise, 1e-30))

    return measure


def _specs(arrays):
    return tuple(TensorSpec(name, (None, *array.shape[1:]), str(array.dtype)) for name, array in arrays.items())
