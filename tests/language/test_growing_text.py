"""Text that is told while its tokens come: it must be what all tokens give together."""

from __future__ import annotations

import pytest

from edgekit.errors import ModelError
from edgekit.tokenizing import Tokenizer

TEXTS = ("A film to see.", "naïve façade — señor", "日本の映画 🎬🎬", "  two  spaces\n\nand lines")


@pytest.fixture(scope="module")
def by_bytes() -> Tokenizer:
    """As GPT-2 and SmolLM have it: a token is some bytes, which may be a part of a character."""
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["a film to see and"], trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet))
    return Tokenizer(tokenizer.to_str().encode(), where="by bytes")


@pytest.fixture(scope="module")
def by_words() -> Tokenizer:
    """As Llama has it: a token says whether a space comes before it, and the first of a text loses it."""
    from tokenizers import Tokenizer as Built
    from tokenizers import decoders, models, pre_tokenizers

    words = ("<unk>", "▁a", "▁film", "s", "▁to", "▁see")
    tokenizer = Built(models.Unigram([(word, -float(number)) for number, word in enumerate(words)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return Tokenizer(tokenizer.to_str().encode(), where="by words")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("first", [0, 1, 5])
def test_pieces_of_bytes_are_whole_characters(by_bytes: Tokenizer, text: str, first: int) -> None:
    tokens = by_bytes.encode(text)
    growing = by_bytes.growing(tokens[:first])
    pieces = [growing.add(token) for token in tokens[first:]]
    assert "\ufffd" not in "".join(pieces)
    assert by_bytes.decode(tokens[:first]).rstrip("\ufffd") + "".join(pieces) == text
    assert growing.rest() == ""


def test_what_ends_within_a_character_is_told_at_the_end(by_bytes: Tokenizer) -> None:
    *tokens, _ = by_bytes.encode("see 日")
    growing = by_bytes.growing(())
    told = "".join(growing.add(token) for token in tokens)
    assert (told, growing.rest()) == ("see ", "\ufffd")


def test_a_word_behind_a_prompt_keeps_its_space(by_words: Tokenizer) -> None:
    tokens = by_words.encode("a films to see")
    growing = by_words.growing(tokens[:1])
    assert [growing.add(token) for token in tokens[1:]] == [" film", "s", " to", " see"]


def test_a_token_by_its_text(by_words: Tokenizer) -> None:
    assert by_words.number("▁film") == 2
    with pytest.raises(ModelError, match="by words: no token 'book'"):
        by_words.number("book")
