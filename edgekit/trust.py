"""Whose signatures count here: a folder of public keys, the keys that were revoked, and what a policy demands.

A trust folder holds public keys as NAME.pub and, if any were revoked, `revoked.txt`: one key id on each line, anything
after a # is a comment. A policy is a JSON file, `{"require_signature": true, "trust": ["/etc/edgekit/trust"]}`: the
machine's in /etc/edgekit, the user's in ~/.config/edgekit. It can demand a signature; nothing can take that back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, ConfigError
from edgekit.keys import PUBLIC_SUFFIX, is_signed, key_id, load_public, require_cryptography
from edgekit.strict import parse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MACHINE = Path("/etc/edgekit")
POLICY_FILE, TRUST_FOLDER, REVOKED_FILE = "policy.json", "trust", "revoked.txt"

TRUSTED, UNKNOWN, REVOKED, INVALID = "trusted", "unknown key", "revoked key", "not of this manifest"


@dataclass(frozen=True)
class Policy:
    """What a policy file may say."""

    require_signature: bool = False
    trust: tuple[str, ...] = ()  # folders of public keys; none: the usual ones


@dataclass(frozen=True)
class Signer:
    """One signature of a bundle, and what it is worth here."""

    key_id: str
    name: str | None  # of the key in a trust folder
    status: str  # TRUSTED, UNKNOWN, REVOKED or INVALID


def check_signature(bundle: Bundle, *, require: bool = False, trust: Path | None = None) -> None:
    """Do nothing unless `require` or a policy demands a signature; then raise BundleError without one that counts.

    `trust` is a folder of public keys, instead of the usual ones; a policy's own folders come before it.
    """
    policies = _policies()
    if require or any(policy.require_signature for policy in policies):
        _demand(bundle, _folders(policies, trust))


def signers(bundle: Bundle, *, trust: Path | None = None) -> tuple[Signer, ...]:
    """Every signature of a bundle, judged by the keys that are trusted here."""
    if not bundle.signatures:
        return ()
    return _judge(bundle, _folders(_policies(), trust))


def describe(found: Sequence[Signer]) -> str:
    """ "signed by release (trusted), 0123456789abcdef (unknown key)"."""
    said = ", ".join(f"{it.name or it.key_id} ({it.status})" for it in found)
    return f"signed by {said}" if said else "not signed"


def is_trusted(bundle: Bundle, *, trust: Path | None = None) -> bool:
    """Whether a key that is trusted here signed it; `trust` as for `check_signature`."""
    return any(signer.status == TRUSTED for signer in signers(bundle, trust=trust))


def user_folder() -> Path:
    """Where the user's policy and trusted keys are."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home, "edgekit")


def _demand(bundle: Bundle, folders: Sequence[Path]) -> None:
    where = bundle.path.name
    places = ", ".join(map(str, folders))
    if not bundle.signatures:
        raise BundleError(f"{where}: not signed, and a signature is demanded: edgekit sign it with a key of {places}")
    found = _judge(bundle, folders)
    if not any(signer.status == TRUSTED for signer in found):
        raise BundleError(f"{where}: {describe(found)}, expected a key of {places}: sign it with one, or add its .pub")


def _judge(bundle: Bundle, folders: Sequence[Path]) -> tuple[Signer, ...]:
    require_cryptography()
    keys, revoked = _keys(folders), _revoked(folders)
    found = []
    for item in bundle.signatures:
        name, key = keys.get(item.key_id, (None, None))
        if item.key_id in revoked:
            status = REVOKED
        elif key is None:
            status = UNKNOWN
        else:
            status = TRUSTED if is_signed(key, item.content, bundle.manifest_bytes) else INVALID
        found.append(Signer(item.key_id, name, status))
    return tuple(found)


def _folders(policies: Iterable[Policy], trust: Path | None) -> tuple[Path, ...]:
    """Where trusted keys are: a policy's own folders, else the folder that was given, else the usual ones."""
    of_policies = tuple(Path(folder) for policy in policies for folder in policy.trust)
    if of_policies:
        return of_policies
    if trust is None:
        return (MACHINE / TRUST_FOLDER, user_folder() / TRUST_FOLDER)
    if not trust.is_dir():
        raise ConfigError(f"{trust}: no folder of trusted keys: give one that holds .pub files")
    return (trust,)


def _policies() -> tuple[Policy, ...]:
    return tuple(_policy(path) for folder in (MACHINE, user_folder()) if (path := folder / POLICY_FILE).exists())


def _policy(path: Path) -> Policy:
    """Read one. Raises ConfigError: a policy that cannot be read lets nothing through."""
    try:
        parsed = json.loads(path.read_bytes())
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{path}: not JSON ({problem}): mend the policy, or remove it") from problem
    return parse(Policy, parsed, where=str(path))


def _keys(folders: Iterable[Path]) -> dict[str, tuple[str, Ed25519PublicKey]]:
    """Key id -> its name and the key."""
    found = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*{PUBLIC_SUFFIX}")):
            key = load_public(path)
            found[key_id(key)] = (path.stem, key)
    return found


def _revoked(folders: Iterable[Path]) -> frozenset[str]:
    found: list[str] = []
    for folder in folders:
        path = folder / REVOKED_FILE
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"{path}: cannot be read: {problem}") from problem
        found += [line.split("#", 1)[0].strip().lower() for line in lines]
    return frozenset(filter(None, found))
