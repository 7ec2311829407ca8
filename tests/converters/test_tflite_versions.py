"""Versions of operators: what TensorFlow's own converter writes for the same types."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from edgekit_tflite.op_runtimes import RUNTIMES, UNKNOWN
from edgekit_tflite.reading import Role, TFLiteOperator, TFLiteTensor, read_model
from edgekit_tflite.versions import _BY_TYPE, least_runtime, runtime_of, version_of

from edgekit.conversion import find_converter
from edgekit.versions import version_key

PLAIN = """
import sys
import numpy as np
import tensorflow as tf
model, output = sys.argv[1:]
for name in ("fp32", "fp16", "dynamic-int8", "int8"):
    made = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=["fixed"])
    if name != "fp32":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "fp16":
        made.target_spec.supported_types = [tf.float16]
    if name == "int8":
        image = np.random.default_rng(0).random((1, 12, 12, 1), np.float32)
        made.representative_dataset = lambda: ([image] for _ in range(4))
    open(f"{output}/{name}.tflite", "wb").write(made.convert())
"""


@pytest.fixture(scope="module")
def plain(models, tmp_path_factory):
    """Files of TensorFlow's converter alone, by precision."""
    folder = tmp_path_factory.mktemp("plain")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    argv = [sys.executable, "-c", PLAIN, str(models / "classifier" / "float"), str(folder)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic-int8", "int8"])  # int16x8 states the versions of int8
def test_types_tell_the_version_that_tensorflow_writes(plain, precision):
    path = plain / f"{precision}.tflite"
    operators = read_model(path).operators
    stated = {operator.type: operator.version for operator in operators}
    told = {operator.type: version_of(replace(operator, version=1)) for operator in operators}
    assert told == stated
    assert find_converter("tflite").inspect(path).min_runtime_version == least_runtime(operators)


@pytest.mark.parametrize("precision", ["fp16", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights"])
def test_a_quantized_file_states_what_its_operators_ask_for(converted, precision):
    artifact = converted("tflite", "classifier", precision)
    operators = read_model(artifact.path).operators
    for operator in operators:
        if operator.type not in ("QUANTIZE", "DEQUANTIZE"):  # new in the file, with a version that it cannot state
            assert operator.version == version_of(replace(operator, version=1)), operator.type
    stated = find_converter("tflite").inspect(artifact.path).min_runtime_version
    assert stated == least_runtime(operators) == least_runtime(replace(each, version=1) for each in operators)


def test_dynamic_int8_needs_a_newer_runtime_than_int8(converted):
    versions = {
        name: find_converter("tflite").inspect(converted("tflite", "classifier", name).path).min_runtime_version
        for name in ("int8", "int16x8", "dynamic-int8")
    }
    assert versions == {"int8": "1.14.0", "int16x8": "2.4.0", "dynamic-int8": "2.17.0"}


def tensor(dtype, role=Role.ACTIVATION):
    return TFLiteTensor((0, 0), "x", (1, 4), dtype, (), (), (), role)


def test_what_is_not_listed_has_no_release():
    assert runtime_of(TFLiteOperator("FlexErf", (tensor("float32"),), (tensor("float32"),))) is None
    assert runtime_of(TFLiteOperator("ADD", (tensor("float32"),), (tensor("float32"),), version=99)) is None
    assert least_runtime([TFLiteOperator("FlexErf", (), ())]) is None


def test_every_version_that_types_tell_is_listed():
    for name, versions in _BY_TYPE.items():
        releases = RUNTIMES[name].split()
        assert max(versions.values()) <= len(releases), name
        assert all(release == UNKNOWN or version_key(release) for release in releases)
