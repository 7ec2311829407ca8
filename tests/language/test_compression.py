"""The steps on a tiny BERT: whole blocks, heads and inner channels go, and embeddings get thinner."""

from __future__ import annotations

import numpy as np
import pytest

import edgekit
from edgekit.loading import LoadedModel, load
from tests.language.pretrained_folders import BERT, WORDS, bert_weights, write_folder

LENGTH = 8
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = write_folder(tmp_path_factory.mktemp("bert") / "tiny", bert_weights(), BERT)
    return load(folder, lengths={"tokens": LENGTH})


@pytest.fixture(scope="module")
def texts() -> dict[str, np.ndarray]:
    """Without labels: what is learned is the embedding of the model itself."""
    tokens = RNG.integers(4, len(WORDS), (96, LENGTH)).astype(np.int32)
    tokens[:, 0], tokens[::2, 6:] = 2, 0
    return {"tokens": tokens}


def cosine(one: LoadedModel, other: LoadedModel, texts: dict[str, np.ndarray]) -> float:
    return float(np.sum(one.predict(texts)["embedding"] * other.predict(texts)["embedding"], axis=1).mean())


def names(model: LoadedModel) -> set[str]:
    return {layer.name for layer in model.model.layers}


def test_depth_leaves_out_a_block_with_its_norms(encoder: LoadedModel, texts: dict[str, np.ndarray]) -> None:
    student = edgekit.compress(
        encoder, edgekit.Distill(depth=0.5, epochs=1, learning_rate=1e-12, batch_size=32), data=texts
    )
    assert names(encoder) - names(student) >= {
        f"{part}_1" for part in ("attention", "attention_norm", "widen", "narrow", "feed_forward_norm")
    }
    assert names(student) >= {f"{part}_0" for part in ("attention", "attention_norm", "widen", "feed_forward_norm")}
    trained = edgekit.compress(
        encoder, edgekit.Distill(depth=0.5, epochs=40, learning_rate=5e-3, batch_size=32), data=texts
    )
    assert cosine(encoder, trained, texts) > cosine(encoder, student, texts) + 0.05


def test_channels_take_heads_and_inner_channels(encoder: LoadedModel, texts: dict[str, np.ndarray]) -> None:
    cut = edgekit.compress(encoder, edgekit.PruneChannels(ratio=0.5, epochs=0))
    attention, widen = (cut.model.get_layer(name) for name in ("attention_0", "widen_0"))
    assert (attention.num_heads, attention.key_dim, widen.units) == (2, 4, 24)
    settings = edgekit.TrainingSettings(loss="original-outputs")
    tuned = edgekit.compress(
        encoder, edgekit.PruneChannels(ratio=0.5, epochs=30, learning_rate=5e-3), data=texts, training=settings
    )
    assert tuned.parameters == cut.parameters < encoder.parameters
    assert cosine(encoder, tuned, texts) > cosine(encoder, cut, texts)


def test_a_thinner_table_of_embeddings(encoder: LoadedModel, texts: dict[str, np.ndarray]) -> None:
    alone = {"*": "skip", "token_embedding": {}}
    thin = edgekit.compress(encoder, edgekit.Factorize(rank=4, layers=alone))
    assert thin.model.get_layer("token_embedding_inner").output_dim == 4
    assert not {name for name in names(thin) if name.endswith("_inner")} - {"token_embedding_inner"}
    whole = edgekit.compress(encoder, edgekit.Factorize(energy=1.0, layers=alone))
    assert cosine(encoder, whole, texts) == pytest.approx(1, abs=1e-5)
