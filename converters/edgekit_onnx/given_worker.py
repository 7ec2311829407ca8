"""Run by `edgekit.workers`: a file that the user brings is opened, put in order, tried, and written anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit_onnx.checking import check_runs
from edgekit_onnx.opening_worker import limited
from edgekit_onnx.outside import bring_in, check_outside
from edgekit_onnx.reading import read_model
from edgekit_onnx.tidying import tidied

if TYPE_CHECKING:
    from onnx import ModelProto


def prepare(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `path`, with the inputs' open sizes at `shapes`, in one file with its weights.

    A file with nothing to put in order is copied as it is. Replies with `notes`.
    """
    path, output = Path(request["path"]), Path(request["output"])
    size = path.stat().st_size
    with limited(path, size):
        model = read_model(path, weights=False)
        size += check_outside(model, path)
    _check_size(path, size, request["most_bytes"])
    with limited(path, size):
        notes = _write(path, model, request["shapes"], output)
        check_runs(output, label=str(path))
    return {"notes": notes}


def _check_size(path: Path, size: int, most: int) -> None:
    if size > most:
        raise ConversionError(
            f"{path} has {size:,} bytes with the weights beside it, and what is made of it, like a member of a bundle, "
            f"is one ONNX file of at most {most:,}: make the model smaller, or use it as it is with onnxruntime"
        )


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


if __name__ == "__main__":
    workers.serve(prepare)
