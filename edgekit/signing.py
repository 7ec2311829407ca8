"""Signing a bundle: its members are checked, its manifest is signed, and the file is replaced whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgekit.bundle import Bundle, write_signed
from edgekit.errors import ConfigError, OutputError
from edgekit.files import atomic
from edgekit.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX, generate, key_id, load_private, load_public
from edgekit.signatures import Signature, encode


def make_keys(folder: Path, name: str, *, passphrase: bytes | None = None) -> str:
    """Write `NAME.key` (readable by its owner alone) and `NAME.pub` into `folder`; returns the key id.

    Raises OutputError when one is there already: a lost key cannot be had again.
    """
    private, public = folder / f"{name}{PRIVATE_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
    for path in (private, public):
        if path.exists():
            raise OutputError(f"{path} is there already: choose another name or folder")
    private_pem, public_pem = generate(passphrase)
    with atomic(private, mode=0o600) as temporary:
        temporary.write_bytes(private_pem)
    with atomic(public) as temporary:
        temporary.write_bytes(public_pem)
    return key_id(load_public(public))


def sign_bundle(
    path: Path, keys: Iterable[Path], *, output: Path | None = None, passphrase: bytes | None = None
) -> tuple[str, ...]:
    """Add the signatures of private keys to a bundle; a key's earlier signature is replaced, others stay.

    Writes `output`, or the bundle itself anew. Returns the ids of all keys that have signed it. Raises BundleError when
    a member was changed, ConfigError on a key that cannot be read.
    """
    private = [load_private(key, passphrase) for key in keys]
    if not private:
        raise ConfigError("no key to sign with: give one that edgekit keygen wrote")
    with Bundle.open(path) as bundle:
        signatures = {item.key_id: item for item in bundle.signatures}
        for key in private:
            identity = key_id(key.public_key())
            signatures[identity] = Signature(identity, encode(key.sign(bundle.manifest_bytes)))
        write_signed(output or path, bundle, tuple(signatures.values()))
    return tuple(sorted(signatures))
