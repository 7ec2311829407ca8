from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_triton.batching import DEFAULT_MAX_BATCH
from edgekit_triton.config import Facts
from edgekit_triton.ensemble import companions, write_companion
from edgekit_triton.options import Options
from edgekit_triton.signature import Signature, Tensor

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError
from edgekit.manifest import Binding
from edgekit.preprocessing.declared import Audio, LogMel, Preprocessing
from edgekit.preprocessing.sounds import prepare
from edgekit.tensors import Quantization
from tests.converters.pbtxt_reader import read_config
from tests.converters.test_triton_config import needs_schema, tritons_schema
from tests.converters.triton_bundles import INPUTS, LABELS, export, one, two_outputs, variant, write
from tests.converters.triton_python import run_python_model

AUDIO = Audio(8000, samples=48, log_mel=LogMel(32, 16, 3, 100.0, 4000.0))
SOUNDS = (replace(INPUTS[0], preprocessing=Preprocessing(audio=AUDIO)), INPUTS[1])
SAMPLES = np.random.default_rng(5).uniform(-1, 1, (2, 60)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of two inputs; the first is said to be log-mel features of 48 samples."""
    return one(tmp_path_factory.mktemp("sounds"), labels=LABELS, inputs=SOUNDS)


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    export(bundle, folder, instances=2)
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    return read_config((folder / "config.pbtxt").read_text())


def test_what_is_written(bundle: Path, tmp_path: Path) -> None:
    exported = export(bundle, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two", "two-ensemble", "two-preprocessing"]
    assert exported.folder == tmp_path / "two"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(exported.files)
    assert (tmp_path / "two-ensemble" / "1").is_dir()
    assert (tmp_path / "two-ensemble" / "labels.txt").exists()
    assert "the server needs its Python backend, with numpy" in exported.notes[-1]


def test_the_model_before(repository: Path) -> None:
    config = config_of(repository / "two-preprocessing")
    assert (config["backend"], config["max_batch_size"]) == ("python", 8)
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1]}]
    assert config["output"] == [{"name": "image_in", "data_type": "TYPE_FP32", "dims": [2, 3]}]
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]


def test_the_ensemble(repository: Path) -> None:
    config = config_of(repository / "two-ensemble")
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_FP32", "dims": [-1]},
        {"name": "steps", "data_type": "TYPE_INT64", "dims": [-1]},
    ]
    assert config["output"] == [
        {"name": "scores", "data_type": "TYPE_FP32", "dims": [3], "label_filename": "labels.txt"},
        {"name": "last", "data_type": "TYPE_INT64", "dims": [1]},
    ]
    assert config["ensemble_scheduling"]["step"] == [
        {
            "model_name": "two-preprocessing",
            "model_version": -1,
            "input_map": {"image": "image"},
            "output_map": {"image_in": "prepared image"},
        },
        {
            "model_name": "two",
            "model_version": -1,
            "input_map": {"image_in": "prepared image", "steps:0": "steps"},
            "output_map": {"scores_out": "scores", "last_out": "last"},
        },
    ]


@needs_schema
@pytest.mark.parametrize("model", ["two-preprocessing", "two-ensemble"])
def test_tritons_own_schema_reads_the_same(repository: Path, model: str) -> None:
    from google.protobuf import json_format, text_format

    text, schema = (repository / model / "config.pbtxt").read_text(), tritons_schema()
    assert text_format.Parse(text, schema.ModelConfig()) == json_format.ParseDict(
        read_config(text), schema.ModelConfig()
    )


def test_the_python_model_gives_what_the_runtime_gives(repository: Path) -> None:
    (prepared,) = run_python_model(repository / "two-preprocessing", {"image": SAMPLES}).values()
    np.testing.assert_array_equal(prepared, prepare(SAMPLES, AUDIO, where=""))


def test_a_mistake_of_a_client_is_said(repository: Path) -> None:
    with pytest.raises(RuntimeError, match=r"preprocessing of 'image': sound has shape \(2, 60\) int64"):
        run_python_model(repository / "two-preprocessing", {"image": SAMPLES.astype(np.int64)})


def test_a_file_that_takes_integers_gets_integers(tmp_path: Path) -> None:
    quantization, content = Quantization(0.1, -3), two_outputs()
    plain = variant("fp32", content)
    made = replace(plain, inputs=(Binding("image", "image_in", "int8", quantization), plain.inputs[1]))
    signature = Signature((Tensor(made.inputs[0], (None, 2, 3)),), (Tensor(made.outputs[0], (None, 3)),))
    facts = Facts("two", "onnx", "int8", signature, DEFAULT_MAX_BATCH, None, ())
    with Bundle.open(write(tmp_path, [(plain, content)], inputs=SOUNDS)) as opened:
        before, _ = companions(facts, opened.manifest, Options(), None)
    write_companion(before, tmp_path / "before", 1)
    (stored,) = run_python_model(tmp_path / "before", {"image": SAMPLES}).values()
    np.testing.assert_array_equal(stored, quantization.quantize(prepare(SAMPLES, AUDIO, where=""), "int8"))


def test_a_fixed_batch_stands_in_the_dims(tmp_path: Path) -> None:
    export(one(tmp_path / "b", two_outputs(1, 5), inputs=SOUNDS), tmp_path / "r")
    config = config_of(tmp_path / "r" / "two-ensemble")
    assert config["max_batch_size"] == 0
    assert [item["dims"] for item in config["input"]] == [[-1, -1], [1, 5]]


def test_the_next_version_of_all_three(bundle: Path, tmp_path: Path) -> None:
    export(bundle, tmp_path)
    export(bundle, tmp_path)
    for model in ("two", "two-preprocessing", "two-ensemble"):
        assert sorted(path.name for path in (tmp_path / model).iterdir() if path.name.isdecimal()) == ["1", "2"]


def test_it_can_be_left_out(bundle: Path, tmp_path: Path) -> None:
    exported = export(bundle, tmp_path, no_preprocessing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    assert exported.notes == ()


def test_a_model_of_that_name_is_not_overwritten(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "two-ensemble").mkdir()
    (tmp_path / "two-ensemble" / "config.pbtxt").write_text("name: 'mine'")
    with pytest.raises(ConfigError, match=r"two-ensemble/config.pbtxt is there and would change"):
        export(bundle, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["two-ensemble"]
    assert (tmp_path / "two-ensemble" / "config.pbtxt").read_text() == "name: 'mine'"
