"""`runtime.pyz`: the device side in one file, so that a board needs Python, numpy and an engine but no edgekit."""

from __future__ import annotations

import ast
import io
import stat
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from edgekit.files import atomic

_MODULES = (
    *(
        "__init__",
        "bundle",
        "errors",
        "files",
        "hashing",
        "keys",
        "manifest",
        "signatures",
        "strict",
        "tensors",
        "trust",
    ),
    *("versions", "workers", "zip_layout"),
    *("preprocessing/__init__", "preprocessing/declared"),  # of a manifest; inputs are prepared before they are sent
)
_FOLDERS = ("runtime", "tensorrt")
_MAIN = b"import sys\n\nfrom edgekit.runtime.__main__ import main\n\nsys.exit(main())\n"


def write_zipapp(path: Path) -> None:
    """Write the zipapp; the same edgekit gives the same bytes."""
    with atomic(path) as temporary:
        temporary.write_bytes(_zipapp())


@cache  # a fleet gets one
def _zipapp() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in _sources():
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def _sources() -> Iterator[tuple[str, bytes]]:
    root = files("edgekit")
    yield "__main__.py", _MAIN
    for module in _MODULES:
        yield f"edgekit/{module}.py", without_docstrings(root.joinpath(f"{module}.py").read_text(encoding="utf-8"))
    for folder in _FOLDERS:
        sources = [entry for entry in root.joinpath(folder).iterdir() if entry.name.endswith(".py")]
        for entry in sorted(sources, key=lambda entry: entry.name):
            yield f"edgekit/{folder}/{entry.name}", without_docstrings(entry.read_text(encoding="utf-8"))


def without_docstrings(source: str) -> bytes:
    """The same program on the same lines, for tracebacks, with its docstrings empty: a fifth less to push."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            last = text.end_lineno or text.lineno
            lines[text.lineno - 1 : last] = [" " * text.col_offset + '""', *[""] * (last - text.lineno)]
    return "\n".join(lines).encode()
