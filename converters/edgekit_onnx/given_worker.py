"""Run by `edgekit.workers`: a file that the user brings is opened, put in order, tried, and written anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit_onnx.beside import data_beside, data_file
from edgekit_onnx.checking import check_runs
from edgekit_onnx.opening_worker import limited
from edgekit_onnx.outside import bring_in, check_outside, read_outside
from edgekit_onnx.reading import read_model
from edgekit_onnx.tidying import tidied

if TYPE_CHECKING:
    from onnx import ModelProto

_SMALL = 1 << 10  # bytes


def prepare(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `path`, with the inputs' open sizes at `shapes`, in one file with its weights.

    Where they have more than `most_bytes`, they go into the file beside it. A file with nothing to put in order is
    copied as it is. Replies with `notes`.
    """
    path, output = Path(request["path"]), Path(request["output"])
    size = path.stat().st_size
    with limited(path, size):
        model = read_model(path, weights=False)
        size += check_outside(model, path)
    with limited(path, size):
        if size > request["most_bytes"]:
            notes = _write_apart(path, model, request["shapes"], output)
        else:
            notes = _write(path, model, request["shapes"], output)
        check_runs(output, label=str(path))
    return {"notes": notes}


def _write(path: Path, model: ModelProto, shapes: dict[str, Sequence[int]], output: Path) -> list[str]:
    import onnx

    outside = bring_in(model, path)
    before = model.SerializeToString()
    model, notes = tidied(model, shapes)
    if not outside and model.SerializeToString() == before:
        shutil.copyfile(path, output)
    else:
        onnx.save(model, str(output))
    beside = [f"{outside:,} bytes of weights that lay beside it are in it now"] if outside else []
    return [*beside, *notes]


def _write_apart(path: Path, model: ModelProto, shapes: dict[str, Sequence[int]], output: Path) -> list[str]:
    """The weights stay outside, in one file; what is small comes in, for shapes are worked out from it."""
    import onnx

    bring_in(model, path, most_bytes=_SMALL)
    model, notes = tidied(model, shapes)
    with data_file(data_beside(output)) as data:
        read_outside(model, path, data.add)
    onnx.save(model, str(output))
    return list(notes)


if __name__ == "__main__":
    workers.serve(prepare)
