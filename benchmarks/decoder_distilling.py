"""A student of a quarter of the decoder, with its teacher's help and without. Part of language_decoder.py.

Both begin with the same weights and see the same texts in the same order; only the weight of the teacher differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoder_training import CONTEXT, load_rows
from edgekit.compression.apply import compress
from edgekit.compression.steps import Distill
from edgekit.kerases import import_keras
from edgekit.language.llama import DecoderSizes, build_decoder
from edgekit.loading import LoadedModel, describe, load
from edgekit.perplexity import logits_of_model, perplexity

STUDENT = DecoderSizes(vocabulary=4096, width=128, inner=352, blocks=4, heads=4, groups=2, head_size=32)
TEACHER_WEIGHTS = (0.0, 0.5)
BATCH, RATE = 8, 3e-3


@dataclass(frozen=True)
class Row:
    """One student."""

    teacher_weight: float  # 0: the text alone
    parameters: int
    perplexity: float


def measure(folder: Path, *, epochs: int, rows: int) -> dict[str, object]:
    """The teacher's perplexity on held-back texts, and that of each student."""
    prose, teacher = load_rows(folder), load(folder, lengths={"tokens": CONTEXT})
    held = prose.held_back[:rows]
    known = perplexity(logits_of_model(teacher), held)
    print(f"teacher: {teacher.parameters:,} parameters, perplexity {known.value:.2f}", flush=True)
    found = []
    for weight in TEACHER_WEIGHTS:
        student = _distilled(teacher, prose.train, weight, epochs)
        found.append(Row(weight, student.parameters, perplexity(logits_of_model(student), held).value))
        print(found[-1], flush=True)
    return {
        "teacher_parameters": teacher.parameters, "teacher_perplexity": known.value, "tokens": known.tokens,
        "epochs": epochs, "batch": BATCH, "rows": [vars(row) for row in found],
    }  # fmt: skip


def _distilled(teacher: LoadedModel, tokens: NDArray[np.int32], weight: float, epochs: int) -> LoadedModel:
    import_keras().utils.set_random_seed(0)
    student = describe(build_decoder(STUDENT), lengths={"tokens": CONTEXT})
    step = Distill(
        student=student.model, weight=weight, temperature=1.0, epochs=epochs, batch_size=BATCH, learning_rate=RATE
    )
    return compress(teacher, step, data={"tokens": tokens})
