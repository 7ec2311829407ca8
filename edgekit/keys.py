"""Ed25519 keys in PEM files, with the package `cryptography` (extra `signing`), imported when a key is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"
_ID_DIGITS = 16
_GET = 'pip install "edgekit[signing]", or the system\'s python3-cryptography'


def require_cryptography() -> None:
    """Raise EngineError, with how to get it, where `cryptography` is missing."""
    try:
        import cryptography  # noqa: F401
    except ImportError as problem:
        raise EngineError(f"signatures need the package cryptography ({problem}): {_GET}") from problem


def generate(passphrase: bytes | None) -> tuple[bytes, bytes]:
    """A new pair as PEM: the private key (PKCS 8, encrypted when there is a passphrase), and the public one."""
    require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return private, key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def load_private(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Read a private key. Raises ConfigError on another file, and on a missing or wrong passphrase."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path)
    try:
        key = load_pem_private_key(content, passphrase)
    except TypeError as problem:  # it is encrypted and there is no passphrase, or the reverse
        raise ConfigError(f"{path}: {str(problem).rstrip('.')}; see EDGEKIT_KEY_PASSPHRASE") from problem
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise ConfigError(f"{path}: no private key in PEM, or another passphrase: see edgekit keygen") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: a key of another kind, expected Ed25519: make one with edgekit keygen")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """Read a public key. Raises ConfigError on another file."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise ConfigError(f"{path}: no public key in PEM: give the .pub file that edgekit keygen wrote") from problem
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: a key of another kind, expected Ed25519: give one that edgekit keygen wrote")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the sha256 of the key's 32 bytes: a short name, which proves nothing by itself."""
    import hashlib  # with the key comes OpenSSL anyway

    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_ID_DIGITS]


def is_signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the owner of `key` signed `message`."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
