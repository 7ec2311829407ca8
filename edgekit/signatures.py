"""`manifest.sig`: who signed a bundle's manifest, which holds the sha256 of every other member.

A signature is Ed25519 (RFC 8032) over the bytes of `manifest.json` as they stand in the bundle.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from dataclasses import dataclass

from edgekit.errors import BundleError
from edgekit.strict import canonical_json, parse

SIGNATURE_MEMBER = "manifest.sig"
SIGNATURES_LIMIT_BYTES = 64 << 10
ED25519_BYTES = 64


@dataclass(frozen=True)
class Signature:
    """One signature of a manifest."""

    key_id: str  # as `edgekit.keys.key_id` makes it
    signature: str  # base64 of ED25519_BYTES bytes

    @property
    def content(self) -> bytes:
        """The signature itself."""
        return base64.b64decode(self.signature)


@dataclass(frozen=True)
class _Signatures:
    """The whole member."""

    signatures: tuple[Signature, ...]


def encode(signature: bytes) -> str:
    """Bytes as a `Signature` holds them."""
    return base64.b64encode(signature).decode()


def to_bytes(signatures: tuple[Signature, ...]) -> bytes:
    """Canonical JSON, sorted by key id. Equal signatures give equal bytes."""
    ordered = _Signatures(tuple(sorted(signatures, key=lambda item: item.key_id)))
    return canonical_json(dataclasses.asdict(ordered))


def from_bytes(content: bytes, *, where: str) -> tuple[Signature, ...]:
    """Parse what `to_bytes` wrote. Raises BundleError on anything else."""
    where = f"{where}: {SIGNATURE_MEMBER}"
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where} is not JSON ({problem}); sign the bundle again") from problem
    signatures = parse(_Signatures, parsed, where=where, error=BundleError).signatures
    for item in signatures:
        if not _is_signature(item.signature):
            raise BundleError(f"{where}: the signature of key {item.key_id!r} is not base64 of {ED25519_BYTES} bytes")
    if to_bytes(signatures) != content or len({item.key_id for item in signatures}) < len(signatures):
        raise BundleError(f"{where} is not in canonical form, each key once; sign the bundle again")
    return signatures


def _is_signature(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == ED25519_BYTES
    except (binascii.Error, ValueError):
        return False
