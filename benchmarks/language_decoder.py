"""What each precision costs a causal decoder: size, perplexity on held-back text, and time for a token.

    python benchmarks/language_decoder.py train [--steps 900]      # once, some 15 minutes: out/decoder/
    python benchmarks/language_decoder.py variants [--rows 32]     # out/language-decoder.json
    python benchmarks/language_decoder.py onnx [--rows 32]         # out/language-decoder-onnx.json
    python benchmarks/language_decoder.py distill [--epochs 2]     # a quarter of it, with and without its help
    python benchmarks/language_decoder.py memory                   # 135 M parameters through `edgekit convert`

The text is that of `make reviews` (decoder_training.py). Every file keeps its keys and values; perplexity is measured
through that cache, token by token. Times are of single tokens near the end of the context, 2 threads, the files taking
turns; beside them stands the time of a token without a cache, which is one run of the whole context.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    decoder_distilling,
    decoder_memory,
    decoder_onnx,
    decoder_training,
    decoder_variants,
)

OUT = ROOT / "out"
FOLDER = OUT / "decoder"


def main() -> None:
    """Run one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "variants", "onnx", "distill", "memory"))
    parser.add_argument("--steps", type=int, default=900, help="of training")
    parser.add_argument("--epochs", type=int, default=2, help="of distillation")
    parser.add_argument("--rows", type=int, default=32, help="held-back texts of 256 tokens")
    parser.add_argument("--only", default="", help="a word that a variant's name must have")
    args = parser.parse_args()
    if args.part == "train":
        decoder_training.train(FOLDER, steps=args.steps)
    elif args.part == "variants":
        with tempfile.TemporaryDirectory(prefix="edgekit-decoders-") as work:
            report = decoder_variants.measure(FOLDER, Path(work), rows=args.rows, only=args.only)
        _keep("language-decoder.json", asdict(report))
    elif args.part == "onnx":
        with tempfile.TemporaryDirectory(prefix="edgekit-decoders-") as work:
            found = decoder_onnx.measure(FOLDER, Path(work), rows=args.rows)
        _keep("language-decoder-onnx.json", {"rows": [asdict(row) for row in found]})
    elif args.part == "distill":
        _keep("language-distilled.json", decoder_distilling.measure(FOLDER, epochs=args.epochs, rows=args.rows))
    else:
        _keep("language-memory.json", {"rows": [asdict(row) for row in decoder_memory.measure(args.only)]})


def _keep(name: str, report: dict[str, object]) -> None:
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
