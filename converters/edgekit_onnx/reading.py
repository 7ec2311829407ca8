"""An ONNX file that nobody vouches for, opened.

Protocol buffers and onnx's checker are native code, which a damaged file can crash, and a small file can make them fill
the memory. So a file is opened in a process of its own first, under a limit of memory; once for each file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.wording import printable
from edgekit_onnx.outside import bring_in, check_outside

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_BYTES = (1 << 31) - 1  # of one protocol buffer, and so of one .onnx file
MOST_PARTS = 1_000_000

_INSTALL = 'pip install "edgekit[onnx]"'
_OPENER = "edgekit_onnx.opening_worker"
_OPENING_TIMEOUT_S = 300.0
_STANDARD = ("", "ai.onnx")
_OLDER = "export it with an older one (opset_version=17), or pip install -U onnx onnxruntime"
_opened: set[tuple[int, ...]] = set()


def try_apart(path: Path) -> None:
    """Open a file in a process of its own, unless that was done. Raises ConversionError when it does not open."""
    check_there(path)
    if _identity(path) not in _opened:
        workers.call(
            _OPENER, {"path": str(path)}, timeout_s=_OPENING_TIMEOUT_S, what=f"opening {path}", error=ConversionError
        )
        mark_opened(path)


def mark_opened(path: Path) -> None:
    """Remember that a file opens, as long as nobody changes it, so that it is not tried again."""
    _opened.add(_identity(path))


def check_there(path: Path) -> None:
    """Raise ConversionError for no file, and for one that cannot be a protocol buffer."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    if path.stat().st_size > MOST_BYTES:
        raise ConversionError(
            f"{path}: not an ONNX model ({path.stat().st_size:,} bytes, and one file holds at most {MOST_BYTES:,}: "
            "weights beyond that lie in files beside it)"
        )


def read_model(path: Path, *, shapes: bool = False, weights: bool = True) -> ModelProto:
    """Read and check a file, in this process.

    With `shapes`, those of its tensors are inferred; without `weights`, those in other files are checked and stay
    there. Raises ConversionError in one line when it is not an ONNX model that this onnx knows.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as problem:
        raise ConversionError(f"an ONNX file is read with onnx, which is not installed: {_INSTALL}") from problem
    check_there(path)
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        _check_count(model, path)
        _check_versions(model, path)
        outside = check_outside(model, path)
        _check_operators(model, path)
        onnx.checker.check_model(str(path) if outside else model)
        if shapes:
            model = onnx.shape_inference.infer_shapes(model)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as problem:
        raise ConversionError(f"{path}: not an ONNX model ({' '.join(str(problem).split())})") from problem
    if not model.graph.node:
        raise ConversionError(f"{path}: an ONNX model without nodes")
    if weights and outside:
        bring_in(model, path)
    return model


def outside_bytes(path: Path) -> int:
    """Of the weights that lie in other files than `path`, which was opened before. Raises ConversionError."""
    import onnx

    return check_outside(onnx.load(str(path), format="protobuf", load_external_data=False), path)


def check_one_file(path: Path, what: str, remedy: str) -> None:
    """Raise ConversionError for a file, opened before, whose weights beside it make it more than one file holds."""
    size = path.stat().st_size + outside_bytes(path)
    if size > MOST_BYTES:
        raise ConversionError(
            f"{path} has {size:,} bytes with the weights beside it, and {what} one ONNX file of at most "
            f"{MOST_BYTES:,}: {remedy}"
        )


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return next((item.version for item in model.opset_import if item.domain in _STANDARD), 0)


def _check_count(model: ModelProto, path: Path) -> None:
    """An empty node takes two bytes in a file, and far more of everything that looks at it."""
    count = len(model.graph.node) + len(model.graph.initializer)
    if count > MOST_PARTS:
        raise ConversionError(f"{path}: {count:,} nodes and constants, at most {MOST_PARTS:,} are read")


def _check_versions(model: ModelProto, path: Path) -> None:
    import onnx

    known = onnx.IR_VERSION, onnx.defs.onnx_opset_version()
    found = model.ir_version, opset_of(model)
    for what, version, most in zip(("IR version", "opset"), found, known, strict=True):
        if version > most:
            raise ConversionError(f"{path}: {what} {version}, and onnx {onnx.__version__} knows up to {most}: {_OLDER}")


def _check_operators(model: ModelProto, path: Path) -> None:
    """Raise ConversionError for an operator under ONNX's own name that its version does not have."""
    from onnx import defs

    opset = opset_of(model)
    for node in model.graph.node:
        if node.domain in _STANDARD and opset and not defs.has(node.op_type, opset, ""):
            raise ConversionError(
                f"{path}: ONNX has no operator {printable(node.op_type)} in opset {opset} "
                f"(node '{printable(node.name)}'): "
                "export that layer with other operations, or with another opset"
            )


def _identity(path: Path) -> tuple[int, ...]:
    """Of a file's content: stays when the file is renamed."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
