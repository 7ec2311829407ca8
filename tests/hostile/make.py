"""Hostile bundles, and what each of them tries: `python -m tests.hostile.make` writes the folder anew.

Most are one change of a good bundle's entries; the rest are one change of its bytes.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.manifest import MANIFEST_MEMBER, to_bytes
from edgekit.signatures import SIGNATURE_MEMBER
from edgekit.strict import canonical_json
from tests.tiny_models import Part, manifest_of

FOLDER = Path(__file__).parent
GOLDEN, MODEL = "golden.npz", "tflite-int8.tflite"
CONTENTS = {GOLDEN: b"golden" * 20, MODEL: bytes(range(200))}
FIRST_NAME = 30  # where a zip's first entry has its name
Entries = list[tuple[str, bytes]]
Change = Callable[[zipfile.ZipInfo], None]


@dataclass(frozen=True)
class Attack:
    """One file: what it tries, and words of the refusal."""

    tries: str
    words: str
    content: bytes


def manifest() -> dict[str, Any]:
    """The good one, as JSON."""
    variant = Part("tflite", "int8", CONTENTS[MODEL], "litert", "int8").variant()
    parsed: dict[str, Any] = json.loads(to_bytes(manifest_of((variant,), CONTENTS[GOLDEN])))
    return parsed


def entries(parsed: object = None) -> Entries:
    """Of the good bundle, or with another manifest."""
    return [(MANIFEST_MEMBER, canonical_json(manifest() if parsed is None else parsed)), *CONTENTS.items()]


def zipped(items: Entries, change: Change = lambda info: None, *, comment: bytes = b"") -> bytes:
    """A zip of these entries, in this order, with no check."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        archive.comment = comment
        for name, content in items:
            info = zipfile.ZipInfo(name)
            change(info)
            archive.writestr(info, content)
    return stream.getvalue()


def without(name: str) -> Entries:
    return [item for item in entries() if item[0] != name]


def named(name: bytes) -> bytes:
    """One more entry, under a name that zipfile itself would not write."""
    placeholder = b"placeholder-name"[: len(name)]
    return zipped([*entries(), (placeholder.decode(), b"x")]).replace(placeholder, name)


def told(*path: str | int, value: object) -> bytes:
    """One value of the manifest changed."""
    parsed = manifest()
    place: Any = parsed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return zipped(entries(parsed))


def written(content: bytes) -> bytes:
    """Another manifest, byte by byte."""
    return zipped([(MANIFEST_MEMBER, content), *CONTENTS.items()])


def signed(content: bytes, place: int = 1) -> bytes:
    items = entries()
    items.insert(place, (SIGNATURE_MEMBER, content))
    return zipped(items)


def only(name: str, **attributes: object) -> Change:
    def change(info: zipfile.ZipInfo) -> None:
        if info.filename == name:
            for key, value in attributes.items():
                setattr(info, key, value)

    return change


def in_directory(content: bytes, offset: int, value: bytes) -> bytes:
    """Bytes of every entry of the zip's directory changed."""
    changed, start = bytearray(content), content.find(b"PK\1\2")
    while start >= 0:
        changed[start + offset : start + offset + len(value)] = value
        start = content.find(b"PK\1\2", start + 4)
    return bytes(changed)


def swapped(before: bytes, after: bytes) -> bytes:
    """Bytes of the good bundle exchanged for as many others."""
    good = zipped(entries())
    assert before in good
    assert len(before) == len(after)
    return good.replace(before, after)


def with_gap() -> bytes:
    """Bytes between the entries and the directory, whose place is put right."""
    good = zipped(entries())
    start = good.index(b"PK\1\2")
    end = bytearray(good[-22:])
    struct.pack_into("<I", end, 16, start + 4)
    return good[:start] + b"hide" + good[start:-22] + bytes(end)


def attacks() -> Mapping[str, Attack]:
    """By file name."""
    good, canonical = zipped(entries()), canonical_json(manifest())
    bomb = np.zeros(4 << 20, np.uint8).tobytes()
    deflated = {"compress_type": zipfile.ZIP_DEFLATED}
    nested = json.loads(canonical) | {"labels": None}
    quantization = ("variants", 0, "inputs", 0, "quantization")
    one = b'{"signatures":[{"key_id":"a","signature":"%s"}]}\n'
    sig = one % (b"A" * 86 + b"==")
    made = {
        "empty": ("no zip at all", "not an edgekit bundle", b""),
        "text": ("no zip at all", "not an edgekit bundle", b"#!/bin/sh\nexit 0\n"),
        "half": ("cut in the middle", "not an edgekit bundle", good[: len(good) // 2]),
        "last-byte-lost": ("cut by one byte", "not an edgekit bundle", good[:-1]),
        "prefix": ("a program before the zip", "first member", b"#!/bin/sh\nexit 0\n" + good),
        "suffix": ("bytes behind the directory", "not an edgekit bundle|behind its directory", good + b"x" * 30),
        "comment": ("bytes in the zip's comment", "behind its directory", zipped(entries(), comment=b"x" * 9)),
        "gap": ("bytes before the directory", "no member has", with_gap()),
        "two-zips": ("a second bundle behind the first", "first member", good + good),
        "empty-zip": ("a zip of nothing", "first member", zipped([])),
        "no-manifest": ("members alone", "first member", zipped(without(MANIFEST_MEMBER))),
        "manifest-last": ("another reader takes the first entry", "first member", zipped(entries()[::-1])),
        "manifest-twice": ("two readers take two manifests", "2 times", zipped([*entries(), entries()[0]])),
        "member-twice": ("one is verified, one is run", "2 times", zipped([*entries(), (GOLDEN, b"x")])),
        "member-in-another-case": (
            "one file on a phone, two here", "2 times", zipped([*entries(), (GOLDEN.upper(), b"x")]),
        ),
        "unlisted": ("a passenger", "not in the manifest", zipped([*entries(), ("run.sh", b"x")])),
        "missing": ("a member left out", "missing", zipped(without(GOLDEN))),
        "parent": ("a path that escapes", "leaves the bundle", named(b"../evil")),
        "inner-parent": ("a path that escapes", "leaves the bundle", named(b"a/../../b")),
        "absolute": ("an absolute path", "leaves the bundle", named(b"/etc/passwd")),
        "drive": ("a path of Windows", "leaves the bundle", named(b"C:/x")),
        "backslash": ("a path of Windows", "leaves the bundle", named(b"a\\b")),
        "dot-at-the-end": ("another name on Windows", "leaves the bundle", named(b"golden.npz.")),
        "dot": ("two names for one file", "leaves the bundle", named(b"./a")),
        "double-slash": ("two names for one file", "leaves the bundle", named(b"a//b")),
        "folder": ("a folder", "leaves the bundle", named(b"folder/")),
        "nul": ("a name that ends early in C", "leaves the bundle", named(b"nul\0byte")),
        "escape-code": ("a name that writes to the terminal", "leaves the bundle", named(b"a\x1b[2Jb")),
        "path-in-manifest": (
            "a path that escapes", "leaves the bundle", told("golden", "member", "path", value="../golden.npz"),
        ),
        "name-is-a-path": ("a model whose files go elsewhere", "leaves the bundle", told("name", value="../evil")),
        "name-has-a-folder": ("a model whose files go elsewhere", "expected no '/'", told("name", value="a/b")),
        "link": (
            "a symbolic link", "symbolic link",
            zipped(entries(), only(GOLDEN, external_attr=(stat.S_IFLNK | 0o777) << 16)),
        ),
        "encrypted": ("a member nobody can check", "encrypted", in_directory(good, 8, b"\1")),
        "bzip2": ("a method that bombs better", "method 12", zipped(entries(), only(MODEL, compress_type=12))),
        "lzma": ("a method that bombs better", "method 14", zipped(entries(), only(MODEL, compress_type=14))),
        "bomb": (
            "4 MiB in 4 kB", "bytes, expected 120",
            zipped([*without(GOLDEN), (GOLDEN, bomb)], only(GOLDEN, **deflated)),
        ),
        "bomb-that-lies": (
            "4 MiB that say they are 120 bytes", "was changed or cut short",
            zipped([*without(GOLDEN), (GOLDEN, bomb)], only(GOLDEN, **deflated)).replace(
                struct.pack("<I", len(bomb)), struct.pack("<I", 120)
            ),
        ),
        "bomb-in-manifest": (
            "a manifest of 17 MiB", "at most",
            zipped([(MANIFEST_MEMBER, b" " * (17 << 20)), *CONTENTS.items()], only(MANIFEST_MEMBER, **deflated)),
        ),
        "bomb-in-signatures": (
            "signatures of 1 MiB", "at most",
            zipped([entries()[0], (SIGNATURE_MEMBER, bomb[: 1 << 20]), *CONTENTS.items()],
                   only(SIGNATURE_MEMBER, **deflated)),
        ),
        "longer-than-it-says": (
            "stored bytes behind a member's end", "no member has",
            zipped([entries()[0], (GOLDEN, CONTENTS[GOLDEN] + b"more"), entries()[2]]).replace(
                struct.pack("<I", 124), struct.pack("<I", 120)
            ),
        ),
        "other-name-inside": (
            "two names for one entry", "was changed or cut short",
            good[: good.index(GOLDEN.encode())] + b"Golden.npz" + good[good.index(GOLDEN.encode()) + 10 :],
        ),
        "other-bytes": (
            "a model of the same size", "was changed: sha256",
            zipped([*without(MODEL), (MODEL, CONTENTS[MODEL][::-1])]),
        ),
        "flipped-bit": (
            "damage", "was changed or cut short", swapped(CONTENTS[MODEL], b"\1" + CONTENTS[MODEL][1:]),
        ),
        "version-2": ("a format of tomorrow", "this edgekit reads 1", told("format_version", value=2)),
        "version-true": (
            "a version that equals 1", "not in canonical|expected a whole",
            told("format_version", value=True),
        ),
        "no-version": (
            "a format of nobody", "format_version is None",
            zipped(entries({key: value for key, value in manifest().items() if key != "format_version"})),
        ),
        "unknown-key": ("a field that only others read", "unknown key 'run'", told("run", value="x")),
        "missing-key": (
            "a field left out", "missing key",
            zipped(entries({key: value for key, value in manifest().items() if key != "variants"})),
        ),
        "wrong-type": ("a list for a name", "expected a string", told("name", value=["x"])),
        "spaces": ("a manifest in two forms", "canonical", written(json.dumps(manifest()).encode())),
        "key-twice": (
            "two readers take two values", "canonical", written(canonical.replace(b'{"', b'{"name":"evil","', 1)),
        ),
        "nan": (
            "a number that equals nothing", "not JSON",
            written(canonical.replace(b'"range":[0.0,', b'"range":[NaN,')),
        ),
        "infinity": (
            "a range without end", "not JSON", written(canonical.replace(b'"range":[0.0,', b'"range":[-1e999,')),
        ),
        "deep": ("a stack that overflows", "not JSON", written(b"[" * 100_000)),
        "not-utf-8": ("bytes that are no text", "not JSON", written(b"\xff\xfe{}")),
        "json-list": ("JSON of another kind", "format_version is None", written(b"[]\n")),
        "short-hash": (
            "a hash that anything has", "sha256 of 64", told("golden", "member", "sha256", value="0" * 63),
        ),
        "negative-size": ("a size below zero", "sha256 of 64", told("golden", "member", "bytes", value=-1)),
        "lists-itself": ("a hash of the manifest in itself", "2 times", told(
            "golden", "member", "path", value=MANIFEST_MEMBER)),
        "lists-the-signatures": (
            "a signature that changes what it signs", "2 times",
            told("golden", "member", "path", value=SIGNATURE_MEMBER),
        ),
        "no-variants": ("nothing to run", "no variant", zipped(entries(nested | {"variants": []}))),
        "other-format": ("a format that nobody checks", "unknown 'exe'", told("variants", 0, "format", value="exe")),
        "unbound-input": ("an input left as it was", "binds the inputs none", told("variants", 0, "inputs", value=[])),
        "object-dtype": ("an array of Python objects", "dtype 'object'", told("inputs", 0, "dtype", value="object")),
        "preprocessing-unfit": (
            "another shape than the model takes", "the model takes 'image'",
            told("inputs", 0, "preprocessing", value={"picture": {"resize": [8, 8]}}),
        ),
        "preprocessing-huge": (
            "a picture that fills the memory", "from 1 to 16384",
            told("inputs", 0, "preprocessing", value={"picture": {"resize": [1 << 40, 1 << 40]}}),
        ),
        "scale-zero": ("a division by zero", "scale 0.0", told(*quantization, "scale", value=0.0)),
        "zero-point": ("an integer that wraps", "zero point 128", told(*quantization, "zero_point", value=128)),
        "steps-of-nothing": (
            "golden sequences of a model that keeps no state", "keeps no state", told("golden", "steps", value=4),
        ),
        "signatures-last": ("signatures after what they sign", "expected the second", signed(sig, place=3)),
        "signatures-with-spaces": ("signatures in two forms", "canonical", signed(sig.replace(b":", b": "))),
        "signature-too-short": ("no signature at all", "not base64 of 64", signed(one % b"AAAA")),
        "key-signs-twice": (
            "two signatures under one id", "each key once",
            signed(sig.replace(b"}]", b'},{"key_id":"a","signature":"' + b"A" * 86 + b'=="}]')),
        ),
    }  # fmt: skip
    return {f"{name}.edgekit": Attack(*attack) for name, attack in made.items()}


def main() -> None:
    """Write every file and the list of them."""
    for path in FOLDER.glob("*.edgekit"):
        path.unlink()
    found = attacks()
    rows = [f"| `{name}` | {attack.tries} |" for name, attack in found.items()]
    head = ["# Hostile bundles", "", "Made by `make.py`; a test holds the reader to refusing each.", ""]
    lines = [*head, "| file | what it tries |", "|---|---|", *rows]
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, attack in found.items():
        (FOLDER / name).write_bytes(attack.content)


if __name__ == "__main__":
    main()
