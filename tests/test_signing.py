"""Keys, signatures, and whose count: a bundle is signed, changed, and judged by trust folders and policies."""

from __future__ import annotations

import json
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit import signatures as signature_format
from edgekit import trust
from edgekit.bundle import Bundle, write_signed
from edgekit.errors import BundleError, ConfigError, EngineError, OutputError
from edgekit.keys import key_id, load_public
from edgekit.manifest import MANIFEST_MEMBER
from edgekit.runtime import open_bundle
from edgekit.signatures import SIGNATURE_MEMBER, Signature, encode
from edgekit.signing import make_keys, sign_bundle
from edgekit.trust import INVALID, REVOKED, TRUSTED, UNKNOWN, check_signature, describe, is_trusted, signers
from tests import tiny_models
from tests.tiny_models import pack


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No policy and no trusted key of the machine that the tests run on."""
    monkeypatch.setattr(trust, "MACHINE", tmp_path / "etc")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys `release` and `other`."""
    for name in ("release", "other"):
        make_keys(tmp_path / "keys", name)
    return tmp_path / "keys"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return pack(tmp_path)


def trusting(folder: Path, *public: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in public:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def demand(folder: Path, **more: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_text(json.dumps({"require_signature": True, **more}))


def statuses(path: Path, folder: Path) -> list[str]:
    with Bundle.open(path) as opened:
        return [signer.status for signer in signers(opened, trust=folder)]


class TestKeys:
    def test_the_private_key_is_the_owners_alone(self, keys: Path) -> None:
        assert stat.S_IMODE((keys / "release.key").stat().st_mode) == 0o600

    def test_keys_are_never_written_over(self, keys: Path) -> None:
        before = (keys / "release.key").read_bytes()
        with pytest.raises(OutputError, match=r"release\.key is there already"):
            make_keys(keys, "release")
        assert (keys / "release.key").read_bytes() == before

    def test_the_id_names_the_public_key(self, tmp_path: Path) -> None:
        identity = make_keys(tmp_path, "k")
        assert identity == key_id(load_public(tmp_path / "k.pub"))
        assert len(identity) == 16

    def test_an_encrypted_key_wants_its_passphrase(self, tmp_path: Path, bundle: Path) -> None:
        make_keys(tmp_path, "k", passphrase=b"correct")
        for wrong in (None, b"wrong"):
            with pytest.raises(ConfigError, match=r"k\.key: .*(EDGEKIT_KEY_PASSPHRASE|passphrase)"):
                sign_bundle(bundle, [tmp_path / "k.key"], passphrase=wrong)
        assert sign_bundle(bundle, [tmp_path / "k.key"], passphrase=b"correct")

    def test_a_passphrase_for_a_key_without(self, keys: Path, bundle: Path) -> None:
        with pytest.raises(ConfigError, match=r"release\.key: .*not encrypted"):
            sign_bundle(bundle, [keys / "release.key"], passphrase=b"x")

    @pytest.mark.parametrize(
        "content", [b"", b"text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    )
    def test_another_file(self, tmp_path: Path, bundle: Path, content: bytes) -> None:
        (tmp_path / "k.key").write_bytes(content)
        with pytest.raises(ConfigError, match=r"k\.key: no private key in PEM"):
            sign_bundle(bundle, [tmp_path / "k.key"])
        with pytest.raises(ConfigError, match=r"k\.key: no public key in PEM"):
            load_public(tmp_path / "k.key")

    def test_a_key_of_another_kind(self, tmp_path: Path, bundle: Path) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        pem, key = serialization.Encoding.PEM, ec.generate_private_key(ec.SECP256R1())
        (tmp_path / "k.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (tmp_path / "k.pub").write_bytes(
            key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        with pytest.raises(ConfigError, match="expected Ed25519"):
            sign_bundle(bundle, [tmp_path / "k.key"])
        with pytest.raises(ConfigError, match="expected Ed25519"):
            load_public(tmp_path / "k.pub")

    def test_no_file(self, tmp_path: Path, bundle: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.key: cannot be read"):
            sign_bundle(bundle, [tmp_path / "none.key"])

    def test_no_key(self, bundle: Path) -> None:
        with pytest.raises(ConfigError, match="no key to sign with"):
            sign_bundle(bundle, [])


class TestSigning:
    def test_only_the_signature_is_added(self, keys: Path, bundle: Path, tmp_path: Path) -> None:
        with Bundle.open(bundle) as opened:
            before = {name: opened.read(name) for name in opened.packed_bytes()}
            manifest = opened.manifest_bytes
        sign_bundle(bundle, [keys / "release.key"], output=tmp_path / "signed.edgekit")
        with Bundle.open(tmp_path / "signed.edgekit") as signed, Bundle.open(bundle) as original:
            assert {name: signed.read(name) for name in signed.packed_bytes()} == before
            assert signed.manifest_bytes == manifest
            assert original.signatures == ()
        with zipfile.ZipFile(tmp_path / "signed.edgekit") as archive:
            assert archive.namelist()[:2] == [MANIFEST_MEMBER, SIGNATURE_MEMBER]

    def test_a_signature_is_one_that_other_tools_verify(self, keys: Path, bundle: Path) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        with zipfile.ZipFile(bundle) as archive:
            (entry,) = json.loads(archive.read(SIGNATURE_MEMBER))["signatures"]
            load_public(keys / "release.pub").verify(
                Signature(**entry).content, archive.read(MANIFEST_MEMBER)
            )  # raises otherwise

    def test_several_keys_and_the_same_again(self, keys: Path, bundle: Path) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        once = bundle.read_bytes()
        sign_bundle(bundle, [keys / "release.key"])
        assert bundle.read_bytes() == once
        both = sign_bundle(bundle, [keys / "other.key"])
        assert len(both) == 2
        assert statuses(bundle, keys) == [TRUSTED, TRUSTED]

    def test_a_changed_member_is_not_signed(self, keys: Path, tmp_path: Path) -> None:
        path = pack(tmp_path)
        whole = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("golden.npz")
        place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=r"'golden\.npz' was changed"):
            sign_bundle(path, [keys / "release.key"])
        assert path.read_bytes() == damaged

    def test_a_manifest_under_anothers_signature(self, keys: Path, bundle: Path, tmp_path: Path) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        other = pack(tmp_path / "other", tiny_models.parts()[:1])
        with Bundle.open(bundle) as signed, Bundle.open(other) as opened:
            write_signed(other, opened, signed.signatures)
        assert statuses(other, keys) == [INVALID]
        with pytest.raises(BundleError, match="not of this manifest"), Bundle.open(other) as opened:
            check_signature(opened, require=True, trust=keys)


class TestTrust:
    def test_what_a_signature_is_worth(self, keys: Path, bundle: Path, tmp_path: Path) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        assert statuses(bundle, keys) == [TRUSTED]
        assert statuses(bundle, trusting(tmp_path / "others", keys / "other.pub")) == [UNKNOWN]
        identity = key_id(load_public(keys / "release.pub"))
        (keys / "revoked.txt").write_text(f"# lost in March\n{identity.upper()}  # release\n")
        assert statuses(bundle, keys) == [REVOKED]

    def test_a_demand(self, keys: Path, bundle: Path) -> None:
        with pytest.raises(BundleError, match="not signed, and a signature is demanded"), Bundle.open(bundle) as opened:
            check_signature(opened, require=True, trust=keys)
        sign_bundle(bundle, [keys / "release.key"])
        with open_bundle(bundle, require_signature=True, trust=keys) as session:
            assert session.choice.variant

    def test_a_revoked_key_beside_a_good_one(self, keys: Path, bundle: Path) -> None:
        sign_bundle(bundle, [keys / "release.key", keys / "other.key"])
        (keys / "revoked.txt").write_text(key_id(load_public(keys / "other.pub")))
        with Bundle.open(bundle) as opened:
            check_signature(opened, require=True, trust=keys)
            assert "release (trusted)" in describe(signers(opened, trust=keys))

    def test_the_users_trust_folder_is_the_usual_one(self, keys: Path, bundle: Path, tmp_path: Path) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        with Bundle.open(bundle) as opened:
            assert not is_trusted(opened)
            trusting(tmp_path / "config/edgekit/trust", keys / "release.pub")
            assert is_trusted(opened)

    @pytest.mark.parametrize("place", ["etc", "config/edgekit"])
    def test_a_policy_holds_for_every_session(self, keys: Path, bundle: Path, tmp_path: Path, place: str) -> None:
        demand(tmp_path / place)
        with pytest.raises(BundleError, match="not signed, and a signature is demanded"):
            open_bundle(bundle)
        sign_bundle(bundle, [keys / "release.key"])
        with pytest.raises(BundleError, match="unknown key"):
            open_bundle(bundle)
        trusting(tmp_path / "etc/trust", keys / "release.pub")
        open_bundle(bundle).close()

    def test_a_policys_own_folders_come_before_what_a_caller_says(
        self, keys: Path, bundle: Path, tmp_path: Path
    ) -> None:
        demand(tmp_path / "etc", trust=[str(trusting(tmp_path / "strict", keys / "other.pub"))])
        sign_bundle(bundle, [keys / "release.key"])
        with pytest.raises(BundleError, match="unknown key"):
            open_bundle(bundle, require_signature=True, trust=keys)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"require_signatures": true}', '{"require_signature": "no"}'])
    def test_a_policy_that_cannot_be_read_lets_nothing_through(
        self, bundle: Path, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/policy.json").write_text(content)
        with pytest.raises(ConfigError, match=r"policy\.json"):
            open_bundle(bundle)

    def test_a_trust_folder_that_is_not_there(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no folder of trusted keys"):
            open_bundle(bundle, require_signature=True, trust=tmp_path / "none")

    def test_a_device_without_cryptography(
        self, keys: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sign_bundle(bundle, [keys / "release.key"])
        demand(tmp_path / "etc")
        monkeypatch.setitem(sys.modules, "cryptography", None)
        with pytest.raises(EngineError, match=r"signatures need the package cryptography .*edgekit\[signing\]"):
            open_bundle(bundle)


class TestMember:
    """`manifest.sig`, read strictly."""

    def written(self, bundle: Path, content: bytes, *, last: bool = False) -> Path:
        with zipfile.ZipFile(bundle) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        entries.insert(len(entries) if last else 1, (SIGNATURE_MEMBER, content))
        with zipfile.ZipFile(bundle, "w") as archive:
            for name, data in entries:
                archive.writestr(name, data)
        return bundle

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "not JSON"),
            (b"[]", "expected a table"),
            (b'{"signatures":[],"more":1}\n', "unknown key 'more'"),
            (b'{"signatures":[{"key_id":"a","signature":"AAAA"}]}\n', "not base64 of 64 bytes"),
            (b'{"signatures":[{"key_id":"a","signature":"%"}]}\n', "not base64 of 64 bytes"),
            (b'{"signatures": []}\n', "not in canonical form"),
            (b" " * (65 << 10), "at most 65536 are read"),
        ],
    )
    def test_another_content(self, bundle: Path, content: bytes, words: str) -> None:
        with pytest.raises(BundleError, match=words):
            Bundle.open(self.written(bundle, content))

    def test_one_key_twice(self, bundle: Path) -> None:
        twice = (Signature("a", encode(bytes(64))), Signature("a", encode(bytes(64))))
        with pytest.raises(BundleError, match="each key once"):
            Bundle.open(self.written(bundle, signature_format.to_bytes(twice)))

    def test_another_place(self, bundle: Path) -> None:
        content = signature_format.to_bytes((Signature("a", encode(bytes(64))),))
        with pytest.raises(BundleError, match="expected the second"):
            Bundle.open(self.written(bundle, content, last=True))
