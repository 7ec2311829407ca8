"""Words of messages."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[\d*m")
_LISTED_ARGUMENTS = re.compile(r"(Call arguments|Arguments) received by")
_FRAMES_FIRST = "in user code:"
LONGEST = 200


def counted(number: int, noun: str) -> str:
    """`1 kernel`, `2 kernels`, `1,000 kernels`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(word: str) -> str:
    """A name out of a file that anybody may have made, in one line: what does not print is escaped."""
    return word if word.isprintable() else word.encode("unicode_escape").decode()


def said(problem: object) -> str:
    """What an exception of Keras or TensorFlow says, in one line: without colours, frames and lists of arguments."""
    text = _LISTED_ARGUMENTS.split(_COLOUR.sub("", str(problem)))[0].strip()
    if text.startswith(_FRAMES_FIRST):
        text = text.splitlines()[-1]
    return " ".join(text.split())[:LONGEST] or type(problem).__name__
