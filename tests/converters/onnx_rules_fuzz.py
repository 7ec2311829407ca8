"""Damaged copies of an ONNX file, and what edgekit makes of each: one JSON line for each try, as a program.

    python onnx_rules_fuzz.py FILE FOLDER KIND[,KIND] [COUNT]

It runs apart from the tests, since what they prove is that this process does not end before its last line. Kinds are
`lint`, TensorRT's rules, and `build`, the TensorRT-RTX parser and builder on the damaged file with no rule before them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from edgekit_onnx import converter
from google.protobuf.descriptor import FieldDescriptor

from edgekit.errors import EdgekitError
from edgekit.tensorrt.building import build_engine
from edgekit.tensorrt.recipe import Recipe
from tests.converters import tflite_fuzz
from tests.converters.tflite_fuzz import FLIPS, TRUNCATIONS

EDITS = 260
ALL = TRUNCATIONS + FLIPS + EDITS

_NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 255)
_WORDS = (b"", b"x", b"Conv", b"QuantizeLinear", b"\xff", b"../../x")


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Other bytes, and EDITS of single fields, the same every time."""
    yield from tflite_fuzz.damaged(content)
    dice = random.Random(0)
    for number in range(EDITS):
        model = onnx.load_from_string(content)
        yield f"edit {number}: {edit(model, dice)}", model.SerializeToString()


def edit(model: Any, dice: random.Random) -> str:
    """Change one field anywhere in the message; its path."""
    message, path = model, ""
    while True:
        field, value = dice.choice(message.ListFields() or [(None, None)])
        if field is None:
            return f"{path} was empty"
        path = f"{path}.{field.name}"
        if field.is_repeated:
            index = dice.randrange(len(value))
            if dice.random() < 0.15:
                del value[index]
                return f"{path}[{index}] gone"
            if field.type != FieldDescriptor.TYPE_MESSAGE:
                value[index] = _other(field, dice)
                return f"{path}[{index}]"
            message = value[index]
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            message = value
        elif dice.random() < 0.2:
            message.ClearField(field.name)
            return f"{path} gone"
        else:
            setattr(message, field.name, _other(field, dice))
            return path


def _other(field: Any, dice: random.Random) -> object:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.choice(_WORDS)
    if field.type == FieldDescriptor.TYPE_STRING:
        return dice.choice(_WORDS).decode("ascii", "ignore")
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return dice.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return dice.choice([value.number for value in field.enum_type.values])
    return abs(number) if (number := dice.choice(_NUMBERS)) < 0 and "UINT" in str(field.type) else number


def _lint(path: Path, _result: Path) -> None:
    findings = converter.lint(path, tool="tensorrt")
    if findings:
        raise EdgekitError(f"findings: {findings[0]}")


def _build(path: Path, result: Path) -> None:
    build_engine(path, Recipe(compute_capabilities=("SM86",)), result, timeout_s=120)


Try = Callable[[Path, Path], object]  # a damaged file and a place for a result
KINDS: dict[str, Try] = {"lint": _lint, "build": _build}


def attempt(action: Try, path: Path, result: Path) -> str:
    """ "fine", "refused: …" with one line of words, "crashed: …" by a signal in another process, or "escaped: …"."""
    try:
        action(path, result)
    except EdgekitError as problem:
        if len(str(problem).splitlines()) != 1:
            return f"escaped: several lines: {problem}"
        if "the process exited with" in str(problem):
            return f"escaped: a traceback of ours in another process: {problem}"
        return f"{'crashed' if 'the process died of' in str(problem) else 'refused'}: {problem}"
    except Exception as problem:
        return f"escaped: {type(problem).__name__}: {problem}"
    return "fine"


def run(file: Path, folder: Path, kinds: list[str], count: int | None) -> None:
    cases = list(damaged(file.read_bytes()))
    if count is not None:
        cases = random.Random(1).sample(cases, count)
    path, result = folder / "damaged.onnx", folder / "x.engine"
    for name, content in cases:
        path.write_bytes(content)
        for kind in kinds:
            result.unlink(missing_ok=True)
            ended = attempt(KINDS[kind], path, result)
            if ended != "fine" and result.exists():
                ended = "escaped: a result was left"
            sys.stdout.write(json.dumps({"case": name, "try": kind, "ended": ended}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), int(sys.argv[4]) if sys.argv[4:] else None)
