from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_triton import exporter
from edgekit_triton.batching import max_batch_size
from edgekit_triton.choosing import choose
from edgekit_triton.config import Facts, config_text
from edgekit_triton.options import Options
from edgekit_triton.pbtxt import Enumerator, Message, to_text
from edgekit_triton.signature import Signature, Tensor
from edgekit_triton.warmup import warmup_samples

from edgekit.bundle import Bundle
from edgekit.bundle_exporters import Exported, exporter_names, find_exporter
from edgekit.errors import BundleError, ConfigError, ConversionError, DataError, EngineError
from edgekit.manifest import Binding
from edgekit.runtime.golden import GoldenVectors
from edgekit.tensorrt.recipe import Recipe, Shapes
from tests.converters.pbtxt_reader import read_config
from tests.converters.triton_bundles import GOLDEN, LABELS, expected, one, two_outputs, variant, write

ONNX = two_outputs()
SCHEMA_PACKAGE = "tritonclient"  # holds the schema that Triton itself is built with
needs_schema = pytest.mark.skipif(
    importlib.util.find_spec(SCHEMA_PACKAGE) is None,
    reason="needs Triton's own schema: pip install --no-deps tritonclient==2.73.0",
)


def export(bundle: Path, output: Path, **options: Any) -> Exported:
    with Bundle.open(bundle) as opened:
        return exporter.with_options(options, where="options").export(opened, output)


def config(bundle: Path, output: Path, **options: Any) -> dict[str, Any]:
    return read_config((export(bundle, output, **options).folder / "config.pbtxt").read_text())


def text_of(precision: str = "fp32", **options: Any) -> str:
    """The configuration of the ONNX file with an open batch, which needs no file."""
    made, parsed = variant(precision, ONNX), Options(**options)
    signature = Signature(
        tuple(Tensor(binding, shape) for binding, shape in zip(made.inputs, ((None, 2, 3), (None, None)), strict=True)),
        tuple(Tensor(binding, shape) for binding, shape in zip(made.outputs, ((None, 3), (None,)), strict=True)),
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


def plan(folder: Path, **more: Any) -> Path:
    return write(folder, [(variant("fp16", b"a plan", format_name="tensorrt", **more), b"a plan")])


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


class TestFiles:
    def test_the_folder(self, dynamic: Path, tmp_path: Path) -> None:
        exported = export(dynamic, tmp_path / "repo")
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        names = ("1/model.onnx", "config.pbtxt", "labels.txt", "warmup/input-0.raw", "warmup/input-1.raw")
        assert found == {f"repo/two/{name}" for name in names}
        assert exported.folder == tmp_path / "repo" / "two"
        assert exported.files == tuple(exported.folder / name for name in names)
        assert (exported.folder / "1" / "model.onnx").read_bytes() == ONNX

    def test_labels(self, dynamic: Path, tmp_path: Path) -> None:
        stored = (export(dynamic, tmp_path / "repo").folder / "labels.txt").read_bytes()
        assert stored == 'cat\na "big" dog\nÜnique\n'.encode()

    def test_labels_that_are_not_of_the_first_output(self, tmp_path: Path) -> None:
        exported = export(one(tmp_path, labels=("a", "b")), tmp_path / "repo")
        assert exported.notes == (
            "labels left out: there are 2, and output 'scores' (batch, 3) float32 is not that many scores",
        )
        assert "label_filename" not in (exported.folder / "config.pbtxt").read_text()
        assert not (exported.folder / "labels.txt").exists()

    def test_a_label_of_two_lines(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"label 'b\\nc' holds a line break, and Triton reads one label a"):
            export(one(tmp_path, labels=("a", "b\nc", "d")), tmp_path / "repo")
        assert not (tmp_path / "repo").exists()

    def test_warm_up_is_the_first_golden_sample(self, dynamic: Path, tmp_path: Path) -> None:
        exported = export(dynamic, tmp_path / "repo")
        assert (exported.folder / "warmup" / "input-0.raw").read_bytes() == GOLDEN["image"][0].tobytes()
        assert (exported.folder / "warmup" / "input-1.raw").read_bytes() == GOLDEN["steps"][0].tobytes()
        read = read_config((exported.folder / "config.pbtxt").read_text())
        assert [(item["name"], item["batch_size"]) for item in read["model_warmup"]] == [
            ("golden", 1),
            ("golden-batch-8", 8),
        ]
        for item in read["model_warmup"]:
            assert item["inputs"] == {
                "image_in": {"data_type": "TYPE_FP32", "dims": [2, 3], "input_data_file": "input-0.raw"},
                "steps:0": {"data_type": "TYPE_INT64", "dims": [5], "input_data_file": "input-1.raw"},
            }

    def test_the_model_gives_the_golden_outputs_for_the_warm_up(self, dynamic: Path, tmp_path: Path) -> None:
        """As Triton does it: names, dtypes, dims and raw bytes from the repository alone, the batch put before."""
        import onnxruntime

        folder = export(dynamic, tmp_path / "repo").folder
        read = read_config((folder / "config.pbtxt").read_text())
        dtypes = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64}
        (request, largest) = read["model_warmup"]
        session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
        for batch in (request["batch_size"], largest["batch_size"]):
            feeds = {
                name: np.repeat(
                    np.fromfile(folder / "warmup" / item["input_data_file"], dtypes[item["data_type"]]).reshape(
                        1, *item["dims"]
                    ),
                    batch,
                    axis=0,
                )
                for name, item in request["inputs"].items()
            }
            scores, last = session.run([item["name"] for item in read["output"]], feeds)
            wanted = expected(GOLDEN)
            np.testing.assert_allclose(scores, np.repeat(wanted["scores"][:1], batch, axis=0), rtol=1e-6)
            np.testing.assert_array_equal(last, np.repeat(wanted["last"][:1], batch))

    def test_warm_up_in_the_dtype_of_the_file(self, tmp_path: Path) -> None:
        """tiny_models' int8 file takes quantized integers; the golden inputs are float."""
        from tests.tiny_models import IMAGES, INPUT_QUANTIZATION

        tensor = Tensor(Binding("image", "x", "int8", INPUT_QUANTIZATION), (None, 4))
        (sample,) = warmup_samples(Signature((tensor,), ()), GoldenVectors({"image": IMAGES}, {}), where="b")
        assert sample.values.dtype == np.int8
        np.testing.assert_array_equal(sample.values, INPUT_QUANTIZATION.quantize(IMAGES[0], "int8"))

    def test_golden_inputs_that_do_not_fit_the_file(self, tmp_path: Path) -> None:
        bundle = one(tmp_path, two_outputs("batch", 7))
        with pytest.raises(DataError, match=r"two-1.0.0.edgekit: golden inputs: 'steps:0' has shape \(1, 5\) int64"):
            export(bundle, tmp_path / "repo")
        assert not (tmp_path / "repo").exists()

    def test_a_bundle_without_golden_samples(self, tmp_path: Path) -> None:
        empty = {name: values[:0] for name, values in GOLDEN.items()}
        with pytest.raises(BundleError, match="the golden vectors hold no sample of 'image'; build it again"):
            export(one(tmp_path, golden=empty), tmp_path / "repo")


class TestChoice:
    VARIANTS = (
        *(variant(precision, ONNX) for precision in ("fp32", "fp16", "int8")),
        variant("int8", b"not read", format_name="tflite", engine="litert"),
    )

    @pytest.mark.parametrize(
        ("options", "chosen", "reason"),
        [
            ({}, "onnx-fp16", "fp16 before fp32 before int8 for ONNX Runtime on a GPU: a rule, not a measurement"),
            ({"cpu": True}, "onnx-fp32", "fp32 before fp16 before int8 for ONNX Runtime on a CPU"),
            ({"tensorrt_accelerator": True}, "onnx-int8", "int8 before fp16 before fp32 for TensorRT"),
            ({"precision": "int8"}, "onnx-int8", "asked for"),
            ({"variant": "onnx-fp32"}, "onnx-fp32", "asked for"),
        ],
    )
    def test_the_best_or_the_one_asked_for(self, options: dict[str, Any], chosen: str, reason: str) -> None:
        choice = choose(self.VARIANTS, Options(**options), where="two")
        assert choice.variant.id == chosen
        assert reason in choice.reason
        reasons = {item.variant: item.reason for item in choice.left_out}
        assert reasons.pop("tflite-int8") == "Triton has no backend of its own for tflite"
        assert len(reasons) == 2
        assert set(reasons.values()) == {f"'{chosen}' is served: serve this one as a model of its own"}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"variant": "tflite-int8"}, "variant 'tflite-int8' cannot be served: Triton has no backend of its own"),
            ({"variant": "onnx"}, "no variant 'onnx' that Triton runs; Triton runs onnx-fp32, onnx-fp16, onnx-int8"),
            ({"precision": "int16x8"}, "no variant in precision int16x8 that Triton runs"),
            ({"variant": "onnx-fp16", "precision": "fp32"}, "no variant 'onnx-fp16' in precision fp32 that Triton"),
        ],
    )
    def test_what_is_not_there(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConversionError, match=message):
            choose(self.VARIANTS, Options(**options), where="two")

    def test_no_variant_for_triton(self, tmp_path: Path) -> None:
        tflite = variant("int8", b"x", format_name="tflite", engine="litert")
        other = variant("fp16", b"y", format_name="tensorrt", engine="tensorrt-rtx")
        bundle = write(tmp_path, [(tflite, b"x"), (other, b"y")])
        with pytest.raises(ConversionError) as caught:
            export(bundle, tmp_path / "repo")
        assert str(caught.value) == (
            "two-1.0.0.edgekit: no variant that Triton runs ('tflite-int8': Triton has no backend of its own for "
            "tflite; 'tensorrt-fp16': Triton's TensorRT backend does not run engines of tensorrt-rtx): build the "
            "bundle for a target that takes ONNX too"
        )

    def test_onnx_comes_before_a_plan(self, tmp_path: Path) -> None:
        made = [(variant("fp16", b"plan", format_name="tensorrt"), b"plan"), (variant("fp32", ONNX), ONNX)]
        exported = export(write(tmp_path, made), tmp_path / "repo")
        assert exported.variant == "onnx-fp32"
        assert exported.reason == "the first fp32 variant, ONNX before an engine that one kind of GPU runs"

    def test_a_file_that_onnx_runtime_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="onnxruntime refuses the model"):
            export(one(tmp_path, b"no ONNX at all"), tmp_path / "repo")
        assert not (tmp_path / "repo").exists()

    def test_a_file_of_another_dtype_than_the_manifest_says(self, tmp_path: Path) -> None:
        bindings = (Binding("image", "image_in", "float16"), Binding("steps", "steps:0", "int64"))
        made = variant("fp32", ONNX, inputs=bindings)
        with pytest.raises(EngineError, match="input tensor 'image_in' is float32, the manifest says float16"):
            export(write(tmp_path, [(made, ONNX)]), tmp_path / "repo")


class TestPlans:
    PROFILE = Recipe(profiles=({"image": Shapes((1, 2, 3), (4, 2, 3), (16, 2, 3))},))

    def test_a_plan_is_served_up_to_its_profile(self, tmp_path: Path) -> None:
        exported = export(plan(tmp_path, tensorrt=self.PROFILE), tmp_path / "repo")
        read = read_config((exported.folder / "config.pbtxt").read_text())
        assert (read["platform"], read["max_batch_size"]) == ("tensorrt_plan", 16)
        assert (exported.folder / "1" / "model.plan").read_bytes() == b"a plan"
        assert "nothing of it could be checked here" in exported.notes[0]

    def test_without_profiles_an_engine_takes_batches_up_to_8(self, tmp_path: Path) -> None:
        assert config(plan(tmp_path, tensorrt=Recipe()), tmp_path / "repo")["max_batch_size"] == 8

    @pytest.mark.parametrize(
        ("recipe", "options", "message"),
        [
            (None, {}, "variant 'tensorrt-fp16' does not say the largest batch of its engine: give --max-batch"),
            (
                PROFILE,
                {"max_batch": 32},
                "--max-batch is 32, and the engine of variant 'tensorrt-fp16' was built for up to 16",
            ),
            (PROFILE, {"cpu": True}, "--cpu is for ONNX, and variant 'tensorrt-fp16' is a plan: leave it out"),
            (PROFILE, {"tensorrt_accelerator": True}, "--tensorrt-accelerator is for ONNX, and variant"),
        ],
    )
    def test_what_a_plan_cannot(
        self, tmp_path: Path, recipe: Recipe | None, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            export(plan(tmp_path, tensorrt=recipe), tmp_path / "repo", **options)

    def test_the_largest_batch_may_be_said(self, tmp_path: Path) -> None:
        assert config(plan(tmp_path), tmp_path / "repo", max_batch=4)["max_batch_size"] == 4


def test_the_exporter_comes_by_entry_point() -> None:
    assert "triton" in exporter_names()
    assert find_exporter("triton") is exporter
    with pytest.raises(ConversionError, match="no exporter 'tritom'"):
        find_exporter("tritom")
