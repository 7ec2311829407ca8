"""Text that grows token by token: a prompt is read in pieces, and each token that follows is chosen by its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from edgekit.errors import DataError, EngineError
from edgekit.manifest import PREFILL, Language
from edgekit.runtime.sampling import Sampler, Sampling
from edgekit.runtime.state import VariableState
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.tokenizing import Tokenizer

STOPPED, ENOUGH, FULL = "stop", "max_tokens", "context"  # why a text ended

Found = TypeVar("Found")


class Use(Protocol):
    """What calls a function with the session's runner, in its turn."""

    def __call__(self, function: Callable[[VariableState], Found], /) -> Found:
        """What the function gives. Raises EngineError when the session is closed."""
        ...


class Decoder:
    """The file's two functions on one text."""

    def __init__(
        self, use: Use, language: Language, inputs: Sequence[TensorSpec], scores: TensorSpec, where: str
    ) -> None:
        """Use `Session.decoder`."""
        self.language = language
        self.where = where
        self.vocabulary = scores.shape[-1] or 0
        self._use = use
        self._names = [spec.name for spec in inputs]  # tokens, position
        self._position = 0
        self._calls = 0

    def follow(
        self, prompt: Sequence[int], *, sampling: Sampling | None = None, max_tokens: int | None = None
    ) -> TokenStream:
        """The tokens that follow on a prompt: iterate over them.

        Raises DataError for a prompt without tokens or with foreign ones, and for more tokens than the context holds.
        """
        return TokenStream(self, prompt, sampling or Sampling(), max_tokens)

    def begin(self, tokens: Sequence[int]) -> Array:
        """Read these tokens, one at least; gives the scores (vocabulary,) of the next."""
        self.read(tokens[:-1])
        return self.step(tokens[-1])

    def read(self, tokens: Sequence[int]) -> None:
        """Begin with these tokens, without the scores of what may follow."""
        self._use(lambda runner: self._read(runner, tokens))

    def step(self, token: int) -> Array:
        """Go on with one more; gives the scores of the next.

        Raises EngineError when the session was used for something else in between.
        """
        return self._use(lambda runner: self._step(runner, token))

    def _read(self, runner: VariableState, tokens: Sequence[int]) -> None:
        """The last piece is padded: what stands behind the position is overwritten later, and seen by nothing."""
        size = self.language.prefill
        for start in range(0, len(tokens), size):
            piece = np.zeros((1, size), np.int32)
            piece[0, : len(tokens) - start] = tokens[start : start + size]
            runner.call(PREFILL, dict(zip(self._names, (piece, np.array([start], np.int32)), strict=True)))
        self._position, self._calls = len(tokens), runner.calls

    def _step(self, runner: VariableState, token: int) -> Array:
        if runner.calls != self._calls:
            raise EngineError(
                f"{self.where}: the session was used for something else before this text had ended: finish one text "
                "before the next, or give each a stream of its own (new_stream)"
            )
        scores: Array = runner.run([np.array([[token]], np.int32), np.array([self._position], np.int32)])[0][0]
        self._position, self._calls = self._position + 1, runner.calls
        return scores


class TokenStream(Iterator[int]):
    """Tokens that follow on a prompt, each when it is asked for; a stop token ends them and is not among them."""

    def __init__(self, decoder: Decoder, prompt: Sequence[int], sampling: Sampling, max_tokens: int | None) -> None:
        """Use `Decoder.follow`."""
        self.prompt = tuple(int(token) for token in prompt)
        self.tokens: list[int] = []
        self.ended: str | None = None  # "stop", "max_tokens" or "context"; None while there may be more
        self._decoder = decoder
        self._sampler = Sampler(sampling)
        self._stop = frozenset(decoder.language.stop_tokens)
        self._most, self._last = _room(self.prompt, max_tokens, decoder)

    @property
    def seed(self) -> int:
        """The one that was asked for, or that was drawn."""
        return self._sampler.seed

    def __next__(self) -> int:
        """The next token. Raises EngineError when the session was used for something else in between."""
        if self.ended is not None:
            raise StopIteration
        scores = self._decoder.step(self.tokens[-1]) if self.tokens else self._decoder.begin(self.prompt)
        token = self._sampler.choose(scores)
        if token in self._stop:
            self.ended = STOPPED
            raise StopIteration
        self.tokens.append(token)
        if len(self.tokens) == self._most:
            self.ended = self._last
        return token


class Generation(Iterator[str]):
    """A text as it grows: iterate over its pieces, or read `text` at the end.

    A piece comes when its characters are whole, so that some tokens give none.
    """

    def __init__(self, stream: TokenStream, tokenizer: Tokenizer) -> None:
        self.text = ""  # so far
        self._stream = stream
        self._growing = tokenizer.growing(stream.prompt)
        self._done = False

    @property
    def prompt_tokens(self) -> tuple[int, ...]:
        """What the prompt became."""
        return self._stream.prompt

    @property
    def tokens(self) -> tuple[int, ...]:
        """Those that followed, so far, without the stop token."""
        return tuple(self._stream.tokens)

    @property
    def ended(self) -> str | None:
        """Why there is no more: "stop", "max_tokens" or "context"; None while there may be more."""
        return self._stream.ended

    @property
    def seed(self) -> int:
        """By which tokens are drawn."""
        return self._stream.seed

    def __next__(self) -> str:
        """The next piece. Raises EngineError as the tokens do."""
        for token in self._stream:
            piece = self._growing.add(token)
            if piece:
                self.text += piece
                return piece
        if self._done:
            raise StopIteration
        self._done = True
        piece = self._growing.rest()
        if not piece:
            raise StopIteration
        self.text += piece
        return piece

    def finish(self) -> Generation:
        """Let it grow to its end."""
        for _ in self:
            pass
        return self


def begin_text(
    decoder: Decoder, tokenizer: bytes, prompt: str, sampling: Sampling, max_tokens: int | None
) -> Generation:
    """The text that follows on a prompt, before its first token; raises what `Session.generate` does."""
    from edgekit.tokenizing import Tokenizer

    words = Tokenizer(tokenizer, where=decoder.where)
    stream = decoder.follow(words.encode(prompt) if prompt else (), sampling=sampling, max_tokens=max_tokens)
    return Generation(stream, words)


def _room(prompt: Sequence[int], max_tokens: int | None, decoder: Decoder) -> tuple[int, str]:
    """(how many tokens may follow, why no more)."""
    context, where = decoder.language.context, decoder.where
    if not prompt:
        raise DataError(f"{where}: the prompt has no tokens: give it a word at least")
    foreign = [token for token in prompt if not 0 <= token < decoder.vocabulary]
    if foreign:
        raise DataError(f"{where}: the prompt has token {foreign[0]}, and the model knows {decoder.vocabulary} tokens")
    room = context - len(prompt)
    if room < 1:
        raise DataError(
            f"{where}: the prompt has {len(prompt)} tokens, and the context holds {context} with what follows: "
            f"give {context - 1} at most"
        )
    if max_tokens is None:
        return room, FULL
    if max_tokens < 1:
        raise DataError(f"{where}: max_tokens is {max_tokens}, expected at least 1")
    if max_tokens > room:
        raise DataError(
            f"{where}: {max_tokens} tokens after a prompt of {len(prompt)}, and the context holds {context}: "
            f"ask for {room} at most"
        )
    return max_tokens, ENOUGH
