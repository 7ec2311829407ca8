from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgekit_triton import exporter
from edgekit_triton.signature import Signature, Tensor
from edgekit_triton.warmup import warmup_samples

from edgekit.bundle_exporters import exporter_names, find_exporter
from edgekit.errors import BundleError, ConversionError, DataError
from edgekit.manifest import Binding
from edgekit.runtime.golden import GoldenVectors
from tests.converters.pbtxt_reader import read_config
from tests.converters.triton_bundles import GOLDEN, LABELS, expected, export, one, two_outputs

ONNX = two_outputs()


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one(tmp_path_factory.mktemp("dynamic"), labels=LABELS)


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


def test_the_exporter_comes_by_entry_point() -> None:
    assert "triton" in exporter_names()
    assert find_exporter("triton") is exporter
    with pytest.raises(ConversionError, match="no exporter 'tritom'"):
        find_exporter("tritom")
