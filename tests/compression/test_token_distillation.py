"""A decoder learns from a bigger one what comes next."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgekit.compression.apply import compress
from edgekit.compression.distillation import distill, soft_target_loss
from edgekit.compression.steps import Distill
from edgekit.compression.token_distillation import token_task
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.kerases import import_keras
from edgekit.language.llama import DecoderSizes, build_decoder
from edgekit.language.llama_writing import save_llama
from edgekit.loading import LoadedModel, describe
from edgekit.perplexity import logits_of_model, perplexity
from tests.language.pretrained_folders import softmax

VOCABULARY, LENGTH = 12, 16


def decoder(width: int, *, seed: int, blocks: int = 1) -> LoadedModel:
    import_keras().utils.set_random_seed(seed)
    sizes = DecoderSizes(
        vocabulary=VOCABULARY, width=width, inner=2 * width, blocks=blocks, heads=2, groups=1, head_size=width // 2
    )
    return describe(build_decoder(sizes), lengths={"tokens": LENGTH})


def counting(rows: int, seed: int = 0) -> np.ndarray:
    """Texts that count on from a random token, by a step that the first two tokens tell; 0 is padding."""
    generator = np.random.default_rng(seed)
    first, step = generator.integers(0, 11, (2, rows, 1))
    return ((first + step * np.arange(LENGTH)) % 11 + 1).astype(np.int32)


@pytest.fixture(scope="module")
def teacher() -> LoadedModel:
    loaded, keras = decoder(32, seed=1, blocks=2), import_keras()
    tokens = counting(512)
    counted = np.tile(np.arange(LENGTH) < LENGTH - 1, (len(tokens), 1))  # nothing follows on the last
    loaded.model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loaded.model.fit(tokens, np.roll(tokens, -1, axis=1), sample_weight=counted, batch_size=64, epochs=12, verbose=0)
    return loaded


def training(tokens: np.ndarray) -> Training:
    return Training(Data({"tokens": tokens}, None, "texts"))


def test_a_student_learns_what_its_teacher_foretells(teacher: LoadedModel) -> None:
    tokens, unseen = counting(512), counting(64, seed=1)
    step = Distill(student=decoder(16, seed=2).model, epochs=12, weight=1.0, learning_rate=1e-2)
    student = distill(teacher, step, training(tokens))
    known = perplexity(logits_of_model(teacher), unseen).value
    learned = perplexity(logits_of_model(student), unseen).value
    assert known < 3
    assert learned < VOCABULARY / 2  # guessing has the whole
    assert student.parameters < teacher.parameters / 4


def test_the_loss_is_that_of_the_formula_and_padding_does_not_count(teacher: LoadedModel) -> None:
    student, temperature, weight = decoder(16, seed=2), 2.0, 0.7
    tokens = counting(2)
    tokens[0, 5:], tokens[1, 9:] = 0, 0
    step = Distill(student=student.model, weight=weight, temperature=temperature, pad_token=0)
    task = token_task(step, teacher, soft_target_loss(False, False, temperature), tokens)
    got, wanted = (np.asarray(loaded.model(tokens), np.float64) for loaded in (student, teacher))
    costs = []
    for row, place in [(0, place) for place in range(4)] + [(1, place) for place in range(8)]:
        asked, answered = softmax(wanted[row, place] / temperature), softmax(got[row, place] / temperature)
        soft = temperature**2 * float(np.sum(asked * np.log(asked / answered)))
        hard = -math.log(softmax(got[row, place])[tokens[row, place + 1]])
        costs.append(weight * soft + (1 - weight) * hard)
    assert float(task.losses[0](tokens.astype(np.float32), got)) == pytest.approx(np.mean(costs), rel=1e-4)


@pytest.mark.parametrize(
    ("tokens", "matched", "error", "said"),
    [
        (counting(8), {"attention_0": "attention_0"}, ModelError, "not for causal decoders"),
        (counting(8)[:, :1], {}, DataError, "in texts of one token nothing follows"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    teacher: LoadedModel, tokens: np.ndarray, matched: dict[str, str], error: type[Exception], said: str
) -> None:
    step = Distill(student=decoder(16, seed=2).model, epochs=1, attention=matched)
    with pytest.raises(error, match=said):
        token_task(step, teacher, soft_target_loss(False, False, 2.0), tokens)


def test_a_folder_of_pretrained_weights_is_a_student(teacher: LoadedModel, tmp_path: Path) -> None:
    save_llama(decoder(16, seed=2).model, tmp_path / "student", positions=LENGTH)
    step = Distill(student=tmp_path / "student", epochs=1)
    assert compress(teacher, step, data={"tokens": counting(64)}).inputs == teacher.inputs


def test_a_number_of_a_token_is_none_below_zero() -> None:
    with pytest.raises(ConfigError, match=r"Distill\.pad_token must be a whole number, 0 or more"):
        Distill(width=0.5, pad_token=-1)
