"""keygen, sign and verify, and the verbs that take --require-signature."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import trust
from tests.tiny_models import IMAGES

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MACHINE", tmp_path / "etc")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_bundle, tmp_path))


@pytest.fixture
def keys(edgekit: Run, tmp_path: Path) -> Path:
    assert edgekit("keygen", "release", "-o", tmp_path / "keys").exit_code == 0
    return tmp_path / "keys"


def test_a_key_is_made_used_and_trusted(edgekit: Run, keys: Path, bundle: Path) -> None:
    unsigned = edgekit("verify", bundle)
    assert unsigned.exit_code == 0
    assert "each as the manifest says; not signed" in unsigned.stdout
    signed = edgekit("sign", bundle, "--key", keys / "release.key", "--json")
    (identity,) = signed.json["signed_by"]
    verified = edgekit("verify", bundle, "--require-signature", "--trust", keys)
    assert verified.exit_code == 0
    assert "signed by release (trusted)" in verified.stdout
    found = edgekit("verify", bundle, "--json", "--trust", keys).json["signatures"]
    assert found == [{"key_id": identity, "name": "release", "status": "trusted"}]


def test_inspect_says_who_signed(edgekit: Run, keys: Path, bundle: Path, tmp_path: Path) -> None:
    assert edgekit("inspect", bundle, "--json").json["signed_by"] == []
    edgekit("sign", bundle, "--key", keys / "release.key")
    assert edgekit("inspect", bundle, "--json").json["signed_by"] == []  # the key is not trusted here
    assert "(unknown key)" in edgekit("inspect", bundle).stdout
    shutil.copytree(keys, tmp_path / "config/edgekit/trust")
    assert len(edgekit("inspect", bundle, "--json").json["signed_by"]) == 1


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
@pytest.mark.parametrize("verb", ["run", "bench", "test"])
def test_a_bundle_that_nobody_signed_is_refused(
    edgekit: Run, keys: Path, bundle: Path, tmp_path: Path, verb: str, device: tuple[str, ...]
) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES[:1])
    more = {"run": ("--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz"), "bench": ("--runs", "2")}.get(verb, ())
    argv = (verb, bundle, *more, *device, "--require-signature", "--trust", keys)
    refused = edgekit(*argv)
    assert refused.exit_code == 2
    assert "not signed, and a signature is demanded" in refused.stderr
    assert not (tmp_path / "y.npz").exists()
    if verb != "test":  # whose whole suite has tests of its own
        edgekit("sign", bundle, "--key", keys / "release.key")
        assert edgekit(*argv).exit_code == 0


def test_a_model_repository_is_made_of_signed_bundles_where_it_is_demanded(
    edgekit: Run, keys: Path, bundle: Path, tmp_path: Path
) -> None:
    argv = ("convert", bundle, "--to", "triton", "-o", tmp_path / "repository")
    for demanded in (("--require-signature", "--trust", keys), ("--require-signature",)):
        refused = edgekit(*argv, *demanded)
        assert refused.exit_code == 2
        assert "not signed, and a signature is demanded" in refused.stderr
        assert not (tmp_path / "repository").exists()
    policy = tmp_path / "etc" / "policy.json"
    policy.parent.mkdir()
    policy.write_text(json.dumps({"require_signature": True, "trust": [str(keys)]}))
    assert edgekit(*argv).exit_code == 2
    edgekit("sign", bundle, "--key", keys / "release.key")
    assert edgekit(*argv).exit_code == 0


def test_the_runtime_on_a_device_takes_it_too(
    keys: Path, bundle: Path, edgekit: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    from edgekit.runtime.__main__ import main

    argv = ["verify", str(bundle), "--require-signature", "--trust", str(keys)]
    assert main(argv) == 2
    assert json.loads(capfd.readouterr().out)["type"] == "BundleError"
    edgekit("sign", bundle, "--key", keys / "release.key")
    assert main(argv) == 0


@pytest.mark.parametrize("name", ["../release", ".hidden", "a/b"])
def test_a_wrong_name(edgekit: Run, tmp_path: Path, name: str) -> None:
    ended = edgekit("keygen", name, "-o", tmp_path)
    assert ended.exit_code == 2
    assert "expected one without folders" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_none(edgekit: Run, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "x.edgekit").write_bytes(b"PK")
    for argv in (("sign", tmp_path / "x.edgekit", "--key", keys / "release.key"), ("verify", tmp_path / "x.edgekit")):
        ended = edgekit(*argv)
        assert ended.exit_code == 2
        assert "not an edgekit bundle" in ended.stderr


def test_the_passphrase_comes_from_the_environment(
    edgekit: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_KEY_PASSPHRASE", "correct")
    edgekit("keygen", "k", "-o", tmp_path)
    assert b"ENCRYPTED" in (tmp_path / "k.key").read_bytes()
    assert edgekit("sign", bundle, "--key", tmp_path / "k.key").exit_code == 0
    monkeypatch.delenv("EDGEKIT_KEY_PASSPHRASE")
    ended = edgekit("sign", bundle, "--key", tmp_path / "k.key")
    assert (ended.exit_code, "EDGEKIT_KEY_PASSPHRASE" in ended.stderr) == (2, True)
