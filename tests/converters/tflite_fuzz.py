"""Damaged copies of a TFLite file, and what edgekit makes of each: one JSON line for each try, as a program.

    python tflite_fuzz.py readers|verbs|compare FILE FOLDER [COUNT]

It runs apart from the tests, since what they prove is that this process does not end before its last line. `readers`
are edgekit's own, without LiteRT before them; `verbs` and `compare` are the command line, where LiteRT opens the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from edgekit_tflite import converter, reading
from edgekit_tflite.embedding import embed, keep_files
from edgekit_tflite.given import is_finished, sign
from edgekit_tflite.options import TFLiteOptions

from edgekit.cli import main
from edgekit.errors import EdgekitError
from edgekit.files import atomic
from edgekit.metadata import ModelMetadata

TRUNCATIONS, FLIPS = 40, 500
CARD = ModelMetadata("damaged", None, None, None, None, (), ())

Try = Callable[[Path, Path], object]  # a damaged file and a place for a result

READERS: dict[str, Try] = {
    "inspect": lambda path, result: converter.inspect(path),
    "is_finished": lambda path, result: is_finished(path, "int8", TFLiteOptions()),
    "sign": sign,
    "embed": lambda path, result: embed(_without_metadata(path.read_bytes()), CARD, where=str(path)),
    "keep_files": lambda path, result: _keep_files(result, path),
}
VERBS: dict[str, Try] = {
    "inspect": lambda path, result: _verb("inspect", path),
    "convert": lambda path, result: _verb("convert", path, "--to", "tflite", "--precision", "int8", "-o", result),
    "quantize": lambda path, result: _verb("convert", path, "--to", "tflite", "--precision", "fp16", "-o", result),
}
KINDS = {"readers": READERS, "verbs": VERBS, "compare": {"compare": lambda path, result: _compare(path)}}


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """TRUNCATIONS and FLIPS of single bytes, the same every time."""
    dice = random.Random(0)
    for step in range(TRUNCATIONS):
        length = len(content) * step // TRUNCATIONS
        yield f"cut to {length}", content[:length]
    for _ in range(FLIPS):
        place, mask = dice.randrange(len(content)), dice.randrange(1, 256)
        yield f"byte {place} ^ {mask}", content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def attempt(action: Try, path: Path, result: Path) -> str:
    """ "fine", "refused: …" with one line of words, or "escaped: …"."""
    try:
        action(path, result)
    except EdgekitError as problem:
        return f"refused: {problem}" if len(str(problem).splitlines()) == 1 else f"escaped: several lines: {problem}"
    except Exception as problem:
        return f"escaped: {type(problem).__name__}: {problem}"
    return "fine"


def _verb(*argv: object) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main([*map(str, argv), "--json"])
    answer = json.loads(printed.getvalue())
    if code:
        raise EdgekitError(answer["error"]["message"])


def _compare(path: Path) -> None:
    """With the sound file, which lies beside it, on two samples of any values."""
    sound, data = path.with_name("given.tflite"), path.with_name("data.npz")
    if not data.exists():
        (given,) = converter.inspect(sound).inputs
        np.savez(data, x=np.random.default_rng(0).uniform(0, 1, (2, *given.shape[1:])).astype(np.float32))
    _verb("compare", sound, path, "--data", data, "--layers")


def _keep_files(result: Path, given: Path) -> None:
    with atomic(result) as temporary:
        temporary.write_bytes(b"")
        keep_files(temporary, given)


def _without_metadata(content: bytes) -> bytes:
    return content.replace(b"TFLITE_METADATA", b"another_meta_da")


def run(kind: str, file: Path, folder: Path, count: int | None) -> None:
    if kind == "readers":
        reading.workers.call = lambda *args, **kwargs: {}  # LiteRT opens nothing
    cases = list(damaged(file.read_bytes()))
    if count is not None:
        cases = random.Random(1).sample(cases, count)
    path, result = folder / "damaged.tflite", folder / "result.tflite"
    for name, content in cases:
        path.write_bytes(content)
        for verb, action in KINDS[kind].items():
            result.unlink(missing_ok=True)
            ended = attempt(action, path, result)
            if ended != "fine" and result.exists():
                ended = "escaped: a result was left"
            sys.stdout.write(json.dumps({"case": name, "try": verb, "ended": ended}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else None)
