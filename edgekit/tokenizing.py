"""Text to token numbers and back, by the `tokenizer.json` that comes with a language model.

Runs on devices: it needs numpy and the package `tokenizers` (extra `text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any  # Any: the package tokenizers' object

import numpy as np

from edgekit.errors import DataError, EngineError, ModelError
from edgekit.tensors import Array

TOKENIZER = "tokenizer.json"
_INSTALL = 'pip install "edgekit[text]"'
_BROKEN = "\ufffd"  # stands for bytes that are no whole character
_LOOK_BACK = 8  # tokens of a prompt by which the first piece gets its space


class Tokenizer:
    """A tokenizer of the Hugging Face `tokenizers` format, without its own padding and truncation."""

    def __init__(self, content: bytes, *, where: str) -> None:
        """`content` is that of a tokenizer.json, `where` for messages.

        Raises ModelError when it is damaged, EngineError when the package `tokenizers` is not installed.
        """
        try:
            from tokenizers import Tokenizer as Parsed
        except ImportError as problem:
            raise EngineError(f"{where}: text needs the package tokenizers: {_INSTALL}") from problem
        try:
            self._parsed: Any = Parsed.from_buffer(content)
        except Exception as problem:  # the package raises plain Exception
            raise ModelError(f"{where}: not a tokenizer.json, or cut short ({problem}); copy it again") from problem
        self._parsed.no_padding()
        self._parsed.no_truncation()
        self._where = where

    @classmethod
    def open(cls, path: str | Path) -> Tokenizer:
        """Open a tokenizer.json, or the one in a folder. Raises ModelError and EngineError."""
        file = Path(path)
        file = file / TOKENIZER if file.is_dir() else file
        try:
            return cls(file.read_bytes(), where=str(file))
        except OSError as problem:
            raise ModelError(f"cannot read {file}: {problem.strerror or problem}") from problem

    @property
    def largest(self) -> int:
        """The largest token number that it gives."""
        return int(max(self._parsed.get_vocab(with_added_tokens=True).values(), default=0))

    def check_fits(self, rows: int) -> None:
        """Raise ModelError when it gives token numbers that an embedding of `rows` rows does not have."""
        if self.largest >= rows:
            raise ModelError(
                f"{self._where}: gives token numbers up to {self.largest}, and the model's embedding has {rows} rows: "
                "the tokenizer is of another model"
            )

    def encode(self, text: str) -> list[int]:
        """The token numbers of one text, with the special tokens that the model was trained with."""
        return list(self._parsed.encode(text).ids)

    def encode_all(self, texts: Sequence[str], *, length: int, pad: int = 0) -> Array:
        """Token numbers (texts, length) int32, padded behind; what is longer is cut, and keeps its last special token.

        Raises DataError for a text without tokens.
        """
        self._parsed.enable_truncation(length)
        try:
            found = self._parsed.encode_batch(list(texts))
        finally:
            self._parsed.no_truncation()
        rows = np.full((len(texts), length), pad, np.int32)
        for row, (text, encoded) in enumerate(zip(texts, found, strict=True)):
            if not encoded.ids:
                raise DataError(f"text {row} ({text[:20]!r}) has no tokens: leave it out")
            rows[row, : len(encoded.ids)] = encoded.ids
        return rows

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token numbers, without special tokens."""
        return str(self._parsed.decode([int(token) for token in tokens]))

    def number(self, token: str) -> int:
        """The number of a token by its text. Raises ModelError where there is none."""
        found = self._parsed.token_to_id(token)
        if found is None:
            raise ModelError(f"{self._where}: no token '{token}'")
        return int(found)

    def growing(self, tokens: Sequence[int]) -> GrowingText:
        """The text that follows on `tokens`, to be told as it comes."""
        return GrowingText(self, tokens)


class GrowingText:
    """Text that is told piece by piece, while its tokens come.

    A token alone has no text: a character may take several, and the first of a text may lose its space. So a piece is
    what a few tokens give together, less what they gave before; one that ends within a character waits.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        """Use `Tokenizer.growing`."""
        self._tokenizer = tokenizer
        self._tokens = list(before[-_LOOK_BACK:])
        self._first, self._told = 0, len(self._tokens)  # of the tokens that give the next piece

    def add(self, token: int) -> str:
        """What the token lets be told; empty where its characters are not whole yet."""
        self._tokens.append(token)
        text = self._untold()
        if not text or text.endswith(_BROKEN):
            return ""
        self._first, self._told = self._told, len(self._tokens)
        return text

    def rest(self) -> str:
        """What was not told yet, however it ends."""
        return self._untold()

    def _untold(self) -> str:
        before = self._tokenizer.decode(self._tokens[self._first : self._told])
        text = self._tokenizer.decode(self._tokens[self._first :])
        told = next((place for place, pair in enumerate(zip(before, text)) if pair[0] != pair[1]), len(before))  # noqa: B905
        return text[told:]
