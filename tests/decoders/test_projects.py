"""What a language model's project and bundle must not say."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import Bundle, write_bundle
from edgekit.cli import main
from edgekit.devices import deploy
from edgekit.devices.local import LocalTransport
from edgekit.errors import BundleError, ConfigError, EngineError
from edgekit.manifest import Language, State, TextTolerance, to_bytes
from edgekit.runtime import open_bundle
from edgekit.runtime.golden import write_golden
from edgekit.runtime.golden_texts import read_golden_texts
from tests.decoders.projects import write_project
from tests.tiny_models import IMAGES, OUTPUTS, Part, expected, float_tflite, manifest_of, member, pack

TEXTS: dict[str, Any] = {
    "prompts": [{"text": "a", "tokens": [1], "expected": [2, 0]}],
    "text": [0, 1, 2],
    "perplexity": 2.5,
}
TOLERANCE = TextTolerance(0.01, 0.9)


def spoken(folder: Path, texts: object = TEXTS, **changes: object) -> Path:
    """A bundle that says it holds a language model of 3 tokens; no file of it is run."""
    content = texts if isinstance(texts, bytes) else json.dumps(texts).encode()
    members = {"golden-texts.json": content, "tokenizer.json": b"{}", "tflite-fp32.tflite": float_tflite()}
    for name, data in members.items():
        (folder / name).write_bytes(data)
    write_golden(folder / "golden.npz", {"image": IMAGES}, {"scores": expected(IMAGES)})
    language = Language(
        tokenizer=member("tokenizer.json", b"{}"), context=8, prefill=4, stop_tokens=(2,), cache_bytes=64,
        golden=member("golden-texts.json", content), tolerances={"tflite-fp32": TOLERANCE},
    )  # fmt: skip
    variant = replace(Part("tflite", "fp32", members["tflite-fp32.tflite"], "litert").variant(), state=State())
    manifest = manifest_of((variant,), (folder / "golden.npz").read_bytes())
    bundle = folder / "spoken-1.0.0.edgekit"
    files = {name: folder / name for name in (*members, "golden.npz")}
    write_bundle(bundle, replace(manifest, language=replace(language, **changes)), files)  # type: ignore[arg-type]
    return bundle


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": 10}, "context is 10, expected a multiple of prefill, which is 4"),
        ({"prefill": 0}, "context is 8, expected a multiple of prefill, which is 0"),
        ({"stop_tokens": (-1,)}, "hold a number below 0"),
        ({"tolerances": {}}, "language has tolerances of , expected tflite-fp32"),
        ({"tolerances": {"tflite-fp32": TOLERANCE, "other": TOLERANCE}}, "tolerances of tflite-fp32, other"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        spoken(tmp_path, **changes)


def test_a_variant_without_state_is_refused(tmp_path: Path) -> None:
    with Bundle.open(spoken(tmp_path)) as bundle:
        manifest = bundle.manifest
    stateless = tuple(replace(variant, state=None) for variant in manifest.variants)
    with pytest.raises(ConfigError, match="'tflite-fp32' of a language model keeps no state"):
        replace(manifest, variants=stateless)


def test_a_reader_from_before_reads_bundles_without_text(tmp_path: Path) -> None:
    with Bundle.open(pack(tmp_path)) as bundle:
        assert b'"language"' not in to_bytes(bundle.manifest)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (b"{", "is not JSON"),
        ({**TEXTS, "more": 1}, "unknown key 'more'"),
        ({**TEXTS, "prompts": []}, "a prompt without tokens, or no prompt"),
        ({**TEXTS, "prompts": [{"text": "", "tokens": [], "expected": [1]}]}, "a prompt without tokens"),
        ({**TEXTS, "text": [1]}, "no text of two tokens"),
        ({**TEXTS, "perplexity": 0.5}, "a perplexity of at least 1"),
        ({**TEXTS, "text": [1] * 9}, "a text beyond the context"),
        ({**TEXTS, "text": [1, 3]}, "tokens that the model does not know"),
    ],
)
def test_golden_texts_that_cannot_be_judged_are_refused(tmp_path: Path, texts: object, said: str) -> None:
    with Bundle.open(spoken(tmp_path, texts)) as bundle, pytest.raises(BundleError, match=said):
        read_golden_texts(bundle)


def test_golden_texts_come_back_as_they_were(tmp_path: Path) -> None:
    with Bundle.open(spoken(tmp_path)) as bundle:
        assert json.loads(json.dumps(dataclasses.asdict(read_golden_texts(bundle)))) == TEXTS


def test_a_device_without_python_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = LocalTransport()
    monkeypatch.setattr(LocalTransport, "python", None)
    with pytest.raises(EngineError, match="local: has no Python, and the runner for it keeps nothing"):
        deploy(spoken(tmp_path), device)
    assert list(device.root.iterdir()) == []
    device.close()


def test_other_bundles_have_no_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = pack(tmp_path)
    with open_bundle(bundle) as session, pytest.raises(EngineError, match="the bundle holds no language model"):
        session.generate("a")
    with Bundle.open(bundle) as opened, pytest.raises(EngineError, match="the bundle holds no language model"):
        read_golden_texts(opened)
    assert OUTPUTS[0].shape[-1] == 3  # which `spoken` counts on
    assert main(("run", str(bundle), "--prompt", "a")) == 2
    assert main(("run", str(bundle), "--prompt", "a", "--device", "local:")) == 2
    assert main(("bench", str(bundle), "--texts", "2")) == 2
    said = capfd.readouterr().err
    assert said.count("the bundle holds no language model") == 2
    assert "--texts does not apply: tiny-1.0.0.edgekit holds no language model" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("[targets.android-arm64]", "[targets.jetson-orin-nano]")], "target 'jetson-orin-nano' takes onnx"),
        ([('"dynamic-int8"]', '"int8"]')], "targets.android-arm64.precision has 'int8'"),
        ([("dynamic-int8 = 0.2", "int16x8 = 0.2")], "language.max_perplexity_rise has 'int16x8'"),
        ([("dynamic-int8 = 0.2", "fp16 = -1.0")], "language.max_perplexity_rise.fp16 is -1.0"),
        ([("prefill = 4", "prefil = 4")], "unknown key 'prefil' in [language]; did you mean 'prefill'?"),
        ([("prefill = 4", "prefill = 5")], "context is 24, expected a multiple of prefill, which is 5"),
        ([("context = 24", "context = 64")], "a length of 64, and the model has 32 positions"),
        ([("evaluation_tokens = 40", "evaluation_tokens = 1")], "evaluation_tokens is 1"),
        ([("prefill = 4", 'tokenizer = "none.json"')], "no tokenizer at"),
        ([("prefill = 4", 'prefill = 4\nstop = ["</s>"]')], "no token '</s>'"),
        ([('"held-back.txt"', '"none.txt"')], "cannot be read as UTF-8 text"),
        ([('"a very good"', '""')], "golden prompt '' has 0 tokens, expected 1 to 18"),
        ([('"a very good"', '"' + "a " * 20 + '"')], "has 20 tokens, expected 1 to 18"),
        ([('name = "tiny"', 'name = "ti ny"')], "name is 'ti ny'"),
        ([("[targets.android-arm64]", "[convert.onnx]\nopset = 17\n\n[targets.android-arm64]")], "[convert.onnx]"),
    ],
)
def test_a_project_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: list[tuple[str, str]], said: str
) -> None:
    project = write_project(tmp_path, *changes)
    assert main(("build", str(project), "-o", str(tmp_path / "out"))) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("flag", [("--resume",), ("--architecture", "a:b")])
def test_flags_of_other_builds_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], flag: tuple[str, ...]
) -> None:
    assert main(("build", str(write_project(tmp_path)), *flag)) == 2
    assert f"{flag[0]} is not for a project with [language]: leave it out" in capfd.readouterr().err
