"""A small causal decoder, trained on the prose of `make reviews`, and saved as a folder as Llama's are laid out.

Part of language_decoder.py. The text is 2 million characters of movie reviews, product reviews and editorials from the
source archive of vaderSentiment (MIT). Every 20th stretch of 50 neighbouring snippets is held back, so that no sentence
of a held-back review was trained on but at the edges of a stretch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: a keras.Model

import numpy as np
from numpy.typing import NDArray

from benchmarks.review_data import load_prose
from edgekit.kerases import import_keras
from edgekit.language.llama import DecoderSizes, build_decoder
from edgekit.language.llama_writing import save_llama
from edgekit.tokenizing import TOKENIZER, Tokenizer

CONTEXT = 256
END = "<|end|>"
END_TOKEN = 0
SIZES = DecoderSizes(vocabulary=4096, width=256, inner=704, blocks=6, heads=8, groups=4, head_size=32)
BATCH = 8
_STRETCH, _EVERY = 50, 20
_PEAK_RATE = 1.5e-3


@dataclass(frozen=True)
class Prose:
    """Token numbers (rows, CONTEXT) int32, snippets one behind the other."""

    train: NDArray[np.int32]
    held_back: NDArray[np.int32]


def split(texts: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(texts to train on, texts held back)."""
    held = [index // _STRETCH % _EVERY == _EVERY - 1 for index in range(len(texts))]
    train = [text for text, kept in zip(texts, held, strict=True) if not kept]
    return train, [text for text, kept in zip(texts, held, strict=True) if kept]


def train_tokenizer(texts: list[str], path: Path, *, vocabulary: int = SIZES.vocabulary) -> None:
    """Write a byte-level BPE (Radford et al. 2019) of these texts."""
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def load_rows(folder: Path) -> Prose:
    """The prose in the numbers of a folder's tokenizer."""
    tokenizer = Tokenizer.open(folder)
    train, held = (rows_of(tokenizer, texts) for texts in split(load_prose()))
    return Prose(train, held)


def rows_of(tokenizer: Tokenizer, texts: list[str]) -> NDArray[np.int32]:
    """Texts one behind the other, in rows of CONTEXT tokens; what is left over is dropped."""
    stream = np.concatenate([np.array([*tokenizer.encode(text), END_TOKEN], np.int32) for text in texts])
    return stream[: len(stream) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)


def train(folder: Path, *, steps: int, sizes: DecoderSizes = SIZES, seed: int = 0) -> None:
    """Train on next tokens by the cross-entropy alone, and save the folder with its tokenizer."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    train_tokenizer(split(load_prose())[0], folder / TOKENIZER)
    rows = load_rows(folder).train
    model = build_decoder(sizes)
    print(f"{model.count_params():,} parameters, {rows.size:,} tokens of text, {steps * BATCH * CONTEXT:,} trained on")
    fit(model, rows, steps=steps)
    save_llama(model, folder, positions=CONTEXT, end_token=END_TOKEN)


def fit(model: Any, rows: NDArray[np.int32], *, steps: int) -> None:
    """AdamW with a warm-up of a twentieth and a cosine to a tenth of the rate."""
    keras = import_keras()
    warm = max(steps // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(
        _PEAK_RATE / 20, steps - warm, alpha=0.1, warmup_target=_PEAK_RATE, warmup_steps=warm
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05, beta_2=0.95, clipnorm=1.0), loss)
    generator, begun = np.random.default_rng(0), time.perf_counter()
    order = np.concatenate([generator.permutation(len(rows)) for _ in range(steps * BATCH // len(rows) + 1)])
    for number in range(steps):
        batch = rows[order[number * BATCH : (number + 1) * BATCH]]
        value = model.train_on_batch(batch[:, :-1], batch[:, 1:])
        if number % 20 == 0 or number == steps - 1:
            print(f"step {number}: loss {float(value):.3f}, {time.perf_counter() - begun:.0f} s", flush=True)
            model.reset_metrics()
