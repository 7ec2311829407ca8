from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_triton.batching import max_batch_size
from edgekit_triton.config import Facts, config_text
from edgekit_triton.options import Options
from edgekit_triton.pbtxt import Enumerator, Message, to_text
from edgekit_triton.signature import Signature, Tensor
from edgekit_triton.warmup import warmup_samples

from edgekit.runtime.golden import GoldenVectors
from tests.converters.pbtxt_reader import read_config
from tests.converters.triton_bundles import GOLDEN, LABELS, config, export, one, two_outputs, variant, write

ONNX = two_outputs()
SCHEMA_PACKAGE = "tritonclient"  # holds the schema that Triton itself is built with
needs_schema = pytest.mark.skipif(
    importlib.util.find_spec(SCHEMA_PACKAGE) is None,
    reason="needs Triton's own schema: pip install --no-deps tritonclient==2.73.0",
)


def text_of(precision: str = "fp32", *, last: tuple[int | None, ...] = (None,), **options: Any) -> str:
    """The configuration of the ONNX file with an open batch, which needs no file; `last` is its second output."""
    made, parsed = variant(precision, ONNX), Options(**options)
    signature = Signature(
        tuple(Tensor(binding, shape) for binding, shape in zip(made.inputs, ((None, 2, 3), (None, None)), strict=True)),
        tuple(Tensor(binding, shape) for binding, shape in zip(made.outputs, ((None, 3), last), strict=True)),
    )
    facts = Facts(
        name="two",
        format="onnx",
        precision=precision,
        signature=signature,
        max_batch_size=max_batch_size(made, signature, parsed),
        labelled="scores",
        samples=warmup_samples(signature, GoldenVectors(GOLDEN, {}), where="two"),
    )
    return config_text(facts, parsed)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one(tmp_path_factory.mktemp("dynamic"), labels=LABELS)


class TestConfiguration:
    def test_inputs_and_outputs_of_a_file_with_an_open_batch(self, dynamic: Path, tmp_path: Path) -> None:
        read = config(dynamic, tmp_path / "repo")
        assert (read["name"], read["platform"], read["max_batch_size"]) == ("two", "onnxruntime_onnx", 8)
        assert read["input"] == [
            {"name": "image_in", "data_type": "TYPE_FP32", "dims": [2, 3]},
            {"name": "steps:0", "data_type": "TYPE_INT64", "dims": [-1]},
        ]
        assert read["output"] == [
            {"name": "scores_out", "data_type": "TYPE_FP32", "dims": [3], "label_filename": "labels.txt"},
            {"name": "last_out", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}},
        ]
        assert read["dynamic_batching"] == {}
        assert read["version_policy"] == {"latest": {"num_versions": 1}}
        assert "instance_group" not in read
        assert "optimization" not in read

    def test_a_fixed_batch_stands_in_dims_and_is_not_batched(self, tmp_path: Path) -> None:
        exported = export(one(tmp_path, two_outputs(2, 5)), tmp_path / "repo")
        read = read_config((exported.folder / "config.pbtxt").read_text())
        assert read["max_batch_size"] == 0
        assert [item["dims"] for item in (*read["input"], *read["output"])] == [[2, 2, 3], [2, 5], [2, 3], [2]]
        assert "dynamic_batching" not in read
        assert [(item["name"], item["batch_size"]) for item in read["model_warmup"]] == [("golden", 1)]
        assert read["model_warmup"][0]["inputs"]["steps:0"]["dims"] == [2, 5]
        stored = np.fromfile(exported.folder / "warmup" / "input-1.raw", np.int64)
        np.testing.assert_array_equal(stored.reshape(2, 5), GOLDEN["steps"][:2])
        assert exported.notes == ("'onnx-fp32' has a fixed batch: Triton sends its requests one by one",)

    def test_a_fixed_batch_beyond_the_golden_samples_repeats_them(self, tmp_path: Path) -> None:
        exported = export(one(tmp_path, two_outputs(6)), tmp_path / "repo")
        stored = np.fromfile(exported.folder / "warmup" / "input-1.raw", np.int64)
        np.testing.assert_array_equal(stored.reshape(6, 5), GOLDEN["steps"][[0, 1, 2, 3, 0, 1]])

    @pytest.mark.parametrize(("last", "dims"), [((), [1]), ((1,), [1]), ((4, None), [4, -1])])
    def test_an_output_without_the_batch_keeps_the_file_from_batching(
        self, last: tuple[int | None, ...], dims: list[int]
    ) -> None:
        read = read_config(text_of(last=last))
        assert read["max_batch_size"] == 0
        assert [item["dims"] for item in read["input"]] == [[-1, 2, 3], [-1, -1]]
        assert read["output"][1] == {"name": "last_out", "data_type": "TYPE_INT64", "dims": dims}
        assert read["model_warmup"][0]["inputs"]["image_in"]["dims"] == [1, 2, 3]

    def test_dims_are_those_of_the_file(self, tmp_path: Path) -> None:
        """The manifest may know more than the file: Triton compares outputs with what ONNX Runtime states."""
        read = config(one(tmp_path, two_outputs(columns="columns"), labels=LABELS), tmp_path / "repo")
        assert read["input"][0]["dims"] == [2, -1]
        assert read["output"][0]["dims"] == [-1]
        assert read["output"][0]["label_filename"] == "labels.txt"
        assert read["model_warmup"][0]["inputs"]["image_in"]["dims"] == [2, 3]

    def test_labels_are_of_the_first_keras_output_wherever_the_file_has_it(self, tmp_path: Path) -> None:
        made = variant("fp32", ONNX)
        turned = variant("fp32", ONNX, outputs=made.outputs[::-1])
        outputs = config(write(tmp_path, [(turned, ONNX)], labels=LABELS), tmp_path / "repo")["output"]
        assert [(item["name"], item.get("label_filename")) for item in outputs] == [
            ("last_out", None),
            ("scores_out", "labels.txt"),
        ]

    @pytest.mark.parametrize(
        ("options", "group"),
        [
            ({"instances": 2}, {"count": 2}),
            ({"gpus": (0, 1)}, {"count": 1, "kind": "KIND_GPU", "gpus": [0, 1]}),
            ({"gpus": (3,), "instances": 4}, {"count": 4, "kind": "KIND_GPU", "gpus": [3]}),
            ({"cpu": True}, {"count": 1, "kind": "KIND_CPU"}),
            ({"cpu": True, "instances": 3}, {"count": 3, "kind": "KIND_CPU"}),
        ],
    )
    def test_instances(self, options: dict[str, Any], group: dict[str, Any]) -> None:
        assert read_config(text_of(**options))["instance_group"] == [group]

    @pytest.mark.parametrize(
        ("words", "policy"),
        [
            ("all", {"all": {}}),
            ("latest:3", {"latest": {"num_versions": 3}}),
            ("specific:1,12", {"specific": {"versions": [1, 12]}}),
        ],
    )
    def test_version_policies(self, words: str, policy: dict[str, Any]) -> None:
        assert read_config(text_of(version_policy=words))["version_policy"] == policy

    def test_dynamic_batching(self) -> None:
        read = read_config(text_of(max_batch=16, preferred_batch=(4, 16), max_queue_delay_us=500))
        assert read["max_batch_size"] == 16
        assert read["dynamic_batching"] == {"preferred_batch_size": [4, 16], "max_queue_delay_microseconds": 500}
        assert [item["batch_size"] for item in read["model_warmup"]] == [1, 16]

    def test_a_largest_batch_of_one_is_not_gathered(self) -> None:
        read = read_config(text_of(max_batch=1))
        assert read["max_batch_size"] == 1
        assert "dynamic_batching" not in read
        assert [item["batch_size"] for item in read["model_warmup"]] == [1]

    @pytest.mark.parametrize(("precision", "mode"), [("fp32", "FP32"), ("fp16", "FP16"), ("int8", "INT8")])
    def test_the_accelerator_may_use_the_precision_of_the_variant(self, precision: str, mode: str) -> None:
        read = read_config(text_of(precision=precision, tensorrt_accelerator=True))
        (accelerator,) = read["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
        assert accelerator == {"name": "tensorrt", "parameters": {"precision_mode": mode}}

    def test_strings_are_escaped(self) -> None:
        text = to_text(Message([("name", 'a"b\\c\nÜ'), ("max_batch_size", 1)]))
        assert text == 'name: "a\\"b\\\\c\\012\\303\\234"\nmax_batch_size: 1\n'
        assert read_config(text)["name"] == 'a"b\\c\nÜ'

    def test_scalars(self) -> None:
        message = Message([("yes", True), ("kind", Enumerator("KIND_CPU")), ("sizes", ()), ("more", (1, -1))])
        assert to_text(message) == "yes: true\nkind: KIND_CPU\nsizes: [ ]\nmore: [ 1, -1 ]\n"


@needs_schema
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cpu": True, "instances": 2, "version_policy": "all", "max_batch": 1},
        {
            "gpus": (0, 1),
            "tensorrt_accelerator": True,
            "preferred_batch": (4, 8),
            "max_queue_delay_us": 100,
            "version_policy": "specific:1,2",
        },
    ],
)
def test_tritons_own_schema_reads_the_same(options: dict[str, Any]) -> None:
    from google.protobuf import json_format, text_format

    text = text_of(**options)
    schema = tritons_schema()
    parsed = text_format.Parse(text, schema.ModelConfig())
    assert parsed == json_format.ParseDict(read_config(text), schema.ModelConfig())


def tritons_schema() -> Any:
    """The generated module alone: its package imports gRPC clients."""
    spec = importlib.util.find_spec(SCHEMA_PACKAGE)
    assert spec is not None
    (folder,) = spec.submodule_search_locations or ()
    found = importlib.util.spec_from_file_location("model_config_pb2", Path(folder, "grpc", "model_config_pb2.py"))
    assert found is not None
    module = importlib.util.module_from_spec(found)
    assert found.loader is not None
    found.loader.exec_module(module)
    return module
