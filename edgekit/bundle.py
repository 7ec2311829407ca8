"""The bundle: one zip with `manifest.json` first, then its members. Written deterministically, read with distrust.

A bundle MUST hold the manifest and exactly the members that it lists, each stored or deflated, each with the size
and sha256 that the manifest gives. It MAY hold signatures of the manifest, as its second member. Nothing is unpacked to
disk and nothing in it is executed.
"""

from __future__ import annotations

import math
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from edgekit import manifest as manifest_format
from edgekit import signatures as signature_format
from edgekit.errors import BundleError, ConfigError, did_you_mean
from edgekit.files import UNREADABLE_ZIP, atomic
from edgekit.hashing import new_sha256
from edgekit.manifest import MANIFEST_MEMBER, Binding, Input, Manifest, Member, Variant
from edgekit.preprocessing.declared import check_fits
from edgekit.signatures import SIGNATURE_MEMBER, SIGNATURES_LIMIT_BYTES, Signature
from edgekit.zip_layout import find_hole

MANIFEST_LIMIT_BYTES = 16 << 20

_CHUNK_BYTES = 1 << 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INTEGERS = {  # dtype -> least and most
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
}
_DTYPES = (*_INTEGERS, "float16", "float32", "float64", "bool")
_UNLISTED = (MANIFEST_MEMBER, SIGNATURE_MEMBER)
_AGAIN = "get the bundle again"


def write_bundle(path: Path, manifest: Manifest, members: Mapping[str, Path]) -> None:
    """Write `manifest` and its members (name in the bundle -> file) as one zip; equal inputs give equal bytes.

    Raises BundleError when the files are not those that the manifest lists, OutputError when `path` cannot be written.
    """
    where = path.name
    _check_manifest(manifest, where)
    listed = {member.path: member for member in manifest.members}
    _check_listing(set(members), set(listed), where)
    content = manifest_format.to_bytes(manifest)
    if len(content) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{where}: the manifest has {len(content)} bytes, at most {MANIFEST_LIMIT_BYTES} are allowed")
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _add(archive, MANIFEST_MEMBER, [content], size=len(content), deflate=True)
        for name, member in sorted(listed.items()):
            deflate = _check_source(members[name], member, where)
            _add(archive, name, _chunks(members[name]), size=member.bytes, deflate=deflate)


def write_signed(path: Path, bundle: Bundle, signatures: tuple[Signature, ...]) -> None:
    """Write a bundle again with these signatures instead of its own. Raises BundleError when a member was changed.

    `path` may be that of the bundle.
    """
    content = signature_format.to_bytes(signatures)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _add(archive, MANIFEST_MEMBER, [bundle.manifest_bytes], size=len(bundle.manifest_bytes), deflate=True)
        _add(archive, SIGNATURE_MEMBER, [content], size=len(content), deflate=True)
        for member in sorted(bundle.manifest.members, key=lambda member: member.path):
            deflate = bundle.packed_bytes()[member.path] < member.bytes
            _add(archive, member.path, bundle.chunks(member.path), size=member.bytes, deflate=deflate)


class Bundle:
    """An open bundle whose structure was checked; each member is checked against the manifest when it is read."""

    def __init__(
        self, path: Path, archive: zipfile.ZipFile, manifest_bytes: bytes, signatures: tuple[Signature, ...]
    ) -> None:
        """Use `Bundle.open`."""
        self.path = path
        self.manifest_bytes = manifest_bytes  # what a signature signs
        self.manifest = manifest = manifest_format.from_bytes(manifest_bytes, where=path.name)
        self.signatures = signatures  # `edgekit.trust` judges them
        self._archive = archive
        self._members = {member.path: member for member in manifest.members}

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open and check a bundle. Raises BundleError when it is not one or breaks a rule of the format."""
        path = Path(path)
        archive = _open_archive(path)
        try:
            bundle = cls(path, archive, _read_manifest(archive, path.name), _read_signatures(archive, path.name))
            _check_manifest(bundle.manifest, path.name)
            _check_sizes(archive, bundle.manifest, path.name)
            _check_layout(archive, path)
        except BaseException:
            archive.close()
            raise
        return bundle

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second close is harmless."""
        self._archive.close()

    def variant(self, variant_id: str) -> Variant:
        """The variant of that id. Raises BundleError with a suggestion."""
        variants = {variant.id: variant for variant in self.manifest.variants}
        if variant_id not in variants:
            raise BundleError(f"{self.path.name}: no variant '{variant_id}'{did_you_mean(variant_id, variants)}")
        return variants[variant_id]

    def read(self, member: str) -> bytes:
        """The bytes of a member, verified. Raises BundleError when it was changed or there is none of that name."""
        return b"".join(self.chunks(member))

    def chunks(self, member: str) -> Iterator[bytes]:
        """`read` in pieces; BundleError may come after the last of them."""
        listed = self._listed(member)
        digest = new_sha256(listed.bytes)
        with _damage_of(member, self.path.name), self._archive.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
        _check_digest(digest.hexdigest(), listed, self.path.name)

    def verify(self) -> tuple[Member, ...]:
        """Check the sha256 of every member without holding any in memory; returns them.

        Raises BundleError at the first that was changed.
        """
        for name in self._members:
            for _ in self.chunks(name):
                pass
        return tuple(self._members.values())

    def packed_bytes(self) -> dict[str, int]:
        """Member name -> the bytes that it takes inside the bundle."""
        return {name: self._archive.getinfo(name).compress_size for name in self._members}

    def _listed(self, name: str) -> Member:
        if name not in self._members:
            raise BundleError(f"{self.path.name}: no member '{name}'{did_you_mean(name, self._members)}")
        return self._members[name]


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as problem:
        raise BundleError(f"{path}: no such file; give the path of an .edgekit bundle") from problem
    except OSError as problem:
        raise BundleError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except UNREADABLE_ZIP as problem:
        raise BundleError(f"{path.name}: not an edgekit bundle, or cut short ({problem}); {_AGAIN}") from problem


def _check_layout(archive: zipfile.ZipFile, path: Path) -> None:
    try:
        with path.open("rb") as stream:
            hole = find_hole(archive, stream)
    except UNREADABLE_ZIP as problem:
        raise BundleError(f"{path.name}: cut short or changed ({problem}); {_AGAIN}") from problem
    if hole is not None:
        raise BundleError(f"{path.name}: it holds bytes that no member has: {hole}; {_AGAIN}")


def _read_manifest(archive: zipfile.ZipFile, where: str) -> bytes:
    infos = archive.infolist()
    for info in infos:
        _check_entry(info, where)
    _check_unique([info.filename for info in infos], "the zip holds member", where)
    if not infos or infos[0].filename != MANIFEST_MEMBER or infos[0].header_offset != 0:
        raise BundleError(f"{where}: the first member is not {MANIFEST_MEMBER}: not an edgekit bundle")
    return _read_bounded(archive, infos[0], MANIFEST_LIMIT_BYTES, where)


def _read_signatures(archive: zipfile.ZipFile, where: str) -> tuple[Signature, ...]:
    infos = archive.infolist()
    found = next((place for place, info in enumerate(infos) if info.filename == SIGNATURE_MEMBER), None)
    if found is None:
        return ()
    if found != 1:
        raise BundleError(f"{where}: {SIGNATURE_MEMBER} is member {found + 1}, expected the second; {_AGAIN}")
    return signature_format.from_bytes(_read_bounded(archive, infos[found], SIGNATURES_LIMIT_BYTES, where), where=where)


def _read_bounded(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, where: str) -> bytes:
    if info.file_size > limit:
        raise BundleError(f"{where}: {info.filename} has {info.file_size} bytes, at most {limit} are read")
    with _damage_of(info.filename, where):
        return archive.read(info)


def _check_sizes(archive: zipfile.ZipFile, manifest: Manifest, where: str) -> None:
    sizes = {info.filename: info.file_size for info in archive.infolist() if info.filename not in _UNLISTED}
    _check_listing(set(sizes), {member.path for member in manifest.members}, where)
    for member in manifest.members:
        if sizes[member.path] != member.bytes:
            raise BundleError(
                f"{where}: member '{member.path}' was changed: {sizes[member.path]} bytes, "
                f"expected {member.bytes}; {_AGAIN}"
            )


def _check_entry(info: zipfile.ZipInfo, where: str) -> None:
    _check_name(info.orig_filename, where)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise BundleError(f"{where}: member '{info.filename}' is a symbolic link; a bundle holds plain files alone")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _COMPRESSIONS:
        raise BundleError(
            f"{where}: member '{info.filename}' is encrypted or compressed by method {info.compress_type}; "
            "a bundle's members are stored or deflated"
        )


def _check_name(name: str, where: str) -> None:
    parts = name.split("/")  # Windows takes "a." and "a " for "a"
    if (
        not name.isprintable()
        or "\\" in name
        or ":" in name
        or any(part != part.rstrip(". ") or not part for part in parts)
    ):
        raise BundleError(f"{where}: {name!r} is a path that leaves the bundle or is not portable")


def _check_manifest(manifest: Manifest, where: str) -> None:
    for word in (manifest.name, manifest.version):  # files are called by them
        _check_name(word, where)
        if "/" in word:
            raise BundleError(f"{where}: the model is called {manifest.name!r} {manifest.version!r}, expected no '/'")
    for member in manifest.members:
        _check_name(member.path, where)
        if not _SHA256.fullmatch(member.sha256) or member.bytes < 0:
            raise BundleError(f"{where}: member '{member.path}' needs a size and a sha256 of 64 hex digits")
    _check_unique([*_UNLISTED, *(member.path for member in manifest.members)], "the manifest lists member", where)
    if not manifest.variants:
        raise BundleError(f"{where}: the manifest lists no variant, so nothing can run; build the bundle again")
    _check_unique([variant.id for variant in manifest.variants], "the manifest lists variant", where)
    for variant in manifest.variants:
        _check_names(variant, "inputs", {item.name for item in manifest.inputs}, where)
        _check_names(variant, "outputs", {item.name for item in manifest.outputs}, where)
        for binding in (*variant.inputs, *variant.outputs):
            _check_binding(binding, f"{where}: variant '{variant.id}'")
        _check_state(variant, f"{where}: variant '{variant.id}'")
    _check_golden(manifest, where)
    for item in manifest.inputs:
        _check_range(item, where)
        _check_preprocessing(item, where)
    for spec in (*(item.spec for item in manifest.inputs), *manifest.outputs):
        _check_dtype(spec.name, spec.dtype, where)


def _check_names(variant: Variant, side: str, expected: set[str], where: str) -> None:
    bound = [binding.name for binding in (variant.inputs if side == "inputs" else variant.outputs)]
    if sorted(bound) != sorted(expected):
        raise BundleError(
            f"{where}: variant '{variant.id}' binds the {side} {', '.join(bound) or 'none'}, "
            f"expected {', '.join(sorted(expected))}; build the bundle again"
        )


def _check_binding(binding: Binding, where: str) -> None:
    _check_dtype(binding.name, binding.dtype, where)
    quantization = binding.quantization
    if quantization is None:
        return
    limits = _INTEGERS.get(binding.dtype)
    if limits is None or not limits[0] <= quantization.zero_point <= limits[1]:
        raise BundleError(f"{where}: '{binding.name}' has zero point {quantization.zero_point} in {binding.dtype}")
    if not (quantization.scale > 0 and math.isfinite(1.0 / quantization.scale)):
        raise BundleError(f"{where}: '{binding.name}' has scale {quantization.scale}, expected a positive number")


def _check_state(variant: Variant, where: str) -> None:
    if variant.state is None:
        return
    tensors = variant.state.tensors
    for side, bound in (("taken", variant.inputs), ("given", variant.outputs)):
        state = [tensor.taken if side == "taken" else tensor.given for tensor in tensors]
        for binding in state:
            _check_binding(binding, where)
        _check_unique([binding.tensor for binding in (*bound, *state)], f"tensors that are {side} include", where)
    for tensor in tensors:
        if not all(size > 0 for size in tensor.shape):
            raise BundleError(f"{where}: state '{tensor.taken.name}' has shape {tensor.shape}, expected sizes above 0")


def _check_golden(manifest: Manifest, where: str) -> None:
    steps = manifest.golden.steps
    if steps is None:
        return
    if steps < 1:
        raise BundleError(f"{where}: the golden samples have {steps} steps, expected 1 or more; {_AGAIN}")
    stateless = [variant.id for variant in manifest.variants if variant.state is None]
    if stateless:
        raise BundleError(
            f"{where}: the golden samples are sequences, and variant '{stateless[0]}' keeps no state; {_AGAIN}"
        )


def _check_range(item: Input, where: str) -> None:
    if item.range is not None and not (item.range[0] <= item.range[1] and math.isfinite(item.range[1] - item.range[0])):
        raise BundleError(f"{where}: input '{item.name}' has range {item.range}, expected least and most")


def _check_preprocessing(item: Input, where: str) -> None:
    if item.preprocessing is None:
        return
    try:
        check_fits(item.preprocessing, item.spec, where=f"preprocessing of '{item.name}'")
    except ConfigError as problem:
        raise BundleError(f"{where}: {problem}; {_AGAIN}") from problem


def _check_dtype(name: str, dtype: str, where: str) -> None:
    if dtype not in _DTYPES:
        raise BundleError(f"{where}: '{name}' has dtype '{dtype}'{did_you_mean(dtype, _DTYPES)}")


def _check_unique(names: list[str], kind: str, where: str) -> None:
    counts = Counter(map(str.casefold, names))
    name = max(counts, key=counts.__getitem__, default="")  # `most_common` imports heapq: a sixth of an opening
    if counts[name] > 1:  # on a file system that takes upper and lower case for the same, too
        raise BundleError(f"{where}: {kind} '{name}' {counts[name]} times, expected once; build the bundle again")


def _check_listing(present: set[str], listed: set[str], where: str) -> None:
    for name in sorted(listed - present):
        raise BundleError(f"{where}: member '{name}' is in the manifest but missing; {_AGAIN}")
    for name in sorted(present - listed):
        raise BundleError(f"{where}: member '{name}' is not in the manifest; {_AGAIN}")


def _check_digest(sha256: str, member: Member, where: str) -> None:
    if sha256 != member.sha256:
        raise BundleError(
            f"{where}: member '{member.path}' was changed: sha256 {sha256}, expected {member.sha256}; {_AGAIN}"
        )


def _check_source(source: Path, member: Member, where: str) -> bool:
    """Check a file against the manifest; returns whether deflating it saves anything."""
    digest, deflater, deflated_bytes = new_sha256(member.bytes), zlib.compressobj(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        deflated_bytes += len(deflater.compress(chunk))
    deflated_bytes += len(deflater.flush())
    _check_digest(digest.hexdigest(), member, where)
    size = source.stat().st_size
    if size != member.bytes:
        raise BundleError(f"{where}: {source} has {size} bytes, the manifest says {member.bytes}")
    return deflated_bytes < size


def _add(archive: zipfile.ZipFile, name: str, chunks: Iterable[bytes], *, size: int, deflate: bool) -> None:
    info = zipfile.ZipInfo(name)  # dated 1980-01-01
    info.create_system = 3  # Unix, whatever system writes it
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    info.file_size = size  # zipfile chooses 64-bit headers by it
    with archive.open(info, "w") as stream:
        for chunk in chunks:
            stream.write(chunk)


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except OSError as problem:
        raise BundleError(f"cannot pack {source}: {problem.strerror or problem}") from problem


@contextmanager
def _damage_of(member: str, where: str) -> Iterator[None]:
    """Turn what zipfile raises on damaged bytes into a BundleError that names the member."""
    try:
        yield
    except UNREADABLE_ZIP as problem:
        raise BundleError(f"{where}: member '{member}' was changed or cut short ({problem}); {_AGAIN}") from problem
