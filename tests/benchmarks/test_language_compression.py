"""The table of a compressed encoder: its recipes are a project's, and its figures are true, on a tiny BERT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.language_compression import RECIPES, Held, measured, steps
from benchmarks.language_encoders import Probe
from edgekit import Distill, Factorize, PruneChannels, compress
from edgekit.loading import load
from tests.language.pretrained_folders import BERT, WORDS, bert_weights, write_folder


def test_recipes_are_steps_of_so_many_epochs() -> None:
    found = {name: steps(recipe, epochs=3) for name, recipe in RECIPES.items()}
    assert found["none"] == ()
    kinds = {"distill": Distill, "channels": PruneChannels, "low rank": Factorize}
    assert {name: type(found[name][0]) for name in kinds} == kinds
    assert all(found[name][0].epochs == 3 for name in kinds)


def test_a_smaller_model_is_measured_against_the_original(tmp_path: Path) -> None:
    original = load(write_folder(tmp_path / "tiny", bert_weights(), BERT), lengths={"tokens": 8})
    tokens = np.random.default_rng(0).integers(4, len(WORDS), (40, 8)).astype(np.int32)
    embeddings = original.predict({"tokens": tokens})["embedding"]
    labels = (embeddings[:, 0] > np.median(embeddings[:, 0])).astype(np.int64)
    held = Held(tokens, labels, embeddings, Probe(embeddings, labels))
    whole = measured("none", original, held, 0.0)
    cut = measured("low rank", compress(original, Factorize(rank=4, layers={"position_embedding": "skip"})), held, 1.0)
    assert whole.mean_cosine > 0.999
    assert whole.probe_drop_points == pytest.approx(0, abs=5)
    assert cut.parameters < whole.parameters
    assert cut.mean_cosine < whole.mean_cosine
    assert cut.median_ms > 0
