"""Damaged copies of an ONNX file, and what edgekit makes of each: one JSON line for each try, as a program.

    python onnx_fuzz.py FILE FOLDER

It runs apart from the tests, since what they prove is that this process does not end before its last line. Some copies
have other bytes; the others are whole protocol buffers whose parts contradict each other.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from edgekit_onnx import converter, given_worker
from edgekit_onnx.reading import MOST_BYTES, mark_opened

from tests.converters.tflite_fuzz import Try, attempt, damaged

CONTRADICTIONS = 500
OPERATORS = ("Gemm", "Constant", "Identity", "Loop", "If", "LSTM", "DequantizeLinear", "ConstantOfShape", "Reshape")

Change = Callable[[onnx.GraphProto, random.Random], object]


def _set(values: object, place: int, value: object) -> None:
    if len(values):  # type: ignore[arg-type]
        values[place % len(values)] = value  # type: ignore[index, arg-type]


CHANGES: tuple[Change, ...] = (
    lambda graph, dice: setattr(dice.choice(graph.node), "op_type", dice.choice(OPERATORS)),
    lambda graph, dice: _set(dice.choice(graph.node).input, dice.randrange(9), dice.choice(_names(graph))),
    lambda graph, dice: _set(dice.choice(graph.node).output, 0, dice.choice(_names(graph))),
    lambda graph, dice: _set(dice.choice(graph.initializer).dims, dice.randrange(4), dice.choice([0, -1, 7, 1 << 40])),
    lambda graph, dice: setattr(dice.choice(graph.initializer), "data_type", dice.randrange(30)),
    lambda graph, dice: graph.node.remove(dice.choice(graph.node)),
    lambda graph, dice: graph.node.append(dice.choice(graph.node)),
    lambda graph, dice: dice.choice(graph.node).ClearField("input"),
    lambda graph, dice: dice.choice(graph.node).ClearField("output"),
    lambda graph, dice: dice.choice(graph.node).ClearField("attribute"),
    lambda graph, dice: setattr(graph.input[0].type.tensor_type, "elem_type", dice.randrange(30)),
    lambda graph, dice: graph.input[0].type.ClearField("tensor_type"),
    lambda graph, dice: setattr(graph.output[0], "name", dice.choice(_names(graph))),
    lambda graph, dice: [setattr(it, "i", dice.choice([-5, 1 << 40])) for it in dice.choice(graph.node).attribute],
)


def _names(graph: onnx.GraphProto) -> list[str]:
    return ["", *(name for node in graph.node for name in (*node.input, *node.output))]


def contradicting(content: bytes) -> Iterator[tuple[str, bytes]]:
    """CONTRADICTIONS copies with up to three changes each, the same every time."""
    dice = random.Random(0)
    for number in range(CONTRADICTIONS):
        model = onnx.load_model_from_string(content)
        for _ in range(dice.randrange(1, 4)):
            if model.graph.node:
                dice.choice(CHANGES)(model.graph, dice)
        yield f"contradiction {number}", model.SerializeToString()


def inspect(path: Path, _result: Path) -> None:
    """As `edgekit inspect` does it, without the process that opens the file first."""
    mark_opened(path)
    converter.inspect(path)


def prepare(path: Path, result: Path) -> None:
    """As the worker of `edgekit convert` does it, ONNX Runtime included."""
    given_worker.prepare({"path": str(path), "output": str(result), "shapes": {}, "most_bytes": MOST_BYTES})
    mark_opened(result)
    converter.inspect(result)


READERS: dict[str, Try] = {"inspect": inspect, "prepare": prepare}


def main_program(file: Path, folder: Path) -> None:
    """Every copy through every reader."""
    content, path, result = file.read_bytes(), folder / "damaged.onnx", folder / "result.onnx"
    for what, copy in (*damaged(content), *contradicting(content)):
        path.write_bytes(copy)
        for name, reader in READERS.items():
            ended = {"what": what, "reader": name, "ended": attempt(reader, path, result)}
            sys.stdout.write(json.dumps(ended) + "\n")
            sys.stdout.flush()  # what was written last tells where a crash came


if __name__ == "__main__":
    main_program(Path(sys.argv[1]), Path(sys.argv[2]))
