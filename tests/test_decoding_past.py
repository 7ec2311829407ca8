"""A decoder as an `.onnx` that is handed the keys and values of the tokens before."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from edgekit_onnx import conversion, converter, matrices

from edgekit.cli import main
from edgekit.conversion import Artifact, find_linter
from edgekit.decoding_past import export_with_past
from edgekit.errors import ConfigError
from edgekit.loading import LoadedModel, load
from edgekit.tensorrt.building import build_engine
from edgekit.tensorrt.recipe import Recipe, Shapes
from tests.language.pretrained_folders import LLAMA, llama_logits, llama_weights, write_folder

TOKENS = np.array([2, 5, 7, 9, 11, 4, 3, 8, 6], np.int32)
CONTEXT = 12
LONG = 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {**LLAMA, "max_position_embeddings": LONG}
    return write_folder(tmp_path_factory.mktemp("past") / "tiny", llama_weights(), config, sentences=False)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> LoadedModel:
    return load(folder, lengths={"tokens": CONTEXT})


def made(decoder: LoadedModel, work: Path, precision: str, context: int = CONTEXT) -> Artifact:
    work.mkdir(exist_ok=True)
    source = export_with_past(decoder, work, context=context)
    return converter.convert(source, precision=precision, calibration=None, output=work / f"{precision}.onnx")


def logits_by_pieces(path: Path, tokens: np.ndarray, pieces: tuple[int, ...]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path))
    names = [port.name for port in session.get_inputs()]
    assert names[:2] == ["tokens", "position"]
    past = {port.name: np.ones(port.shape, np.float32) for port in session.get_inputs()[2:]}  # what is there is unseen
    begun, found = 0, []
    for size in pieces:
        position = np.array([begun], np.int32)
        logits, *present = session.run(
            None, {"tokens": tokens[None, begun : begun + size], "position": position, **past}
        )
        past = dict(zip(past, present, strict=True))
        found.append(logits[0])
        begun += size
    return np.concatenate(found)


def test_present_is_the_next_past(decoder: LoadedModel, tmp_path: Path) -> None:
    artifact = made(decoder, tmp_path, "fp32")
    expected = llama_logits(llama_weights(), TOKENS)
    for pieces in ((4, 1, 2, 1, 1), (1,) * 9, (9,)):
        np.testing.assert_allclose(logits_by_pieces(artifact.path, TOKENS, pieces), expected, atol=1e-4)


def test_float16_keeps_the_angles_of_late_positions(decoder: LoadedModel, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(4, 12, LONG).astype(np.int32)
    whole, halved = (
        logits_by_pieces(made(decoder, tmp_path / precision, precision, LONG).path, tokens, (LONG,))[-64:]
        for precision in ("fp32", "fp16")
    )
    assert np.abs(halved - whole).max() < 0.02 * np.abs(whole).max()


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_tensorrt_takes_it(decoder: LoadedModel, tmp_path: Path) -> None:
    artifact = made(decoder, tmp_path, "fp16")
    assert find_linter("onnx").lint(artifact.path, tool="tensorrt") == ()
    sizes = Shapes((1, 1), (1, 1), (1, CONTEXT))
    recipe = Recipe(compute_capabilities=("SM86",), profiles=({"tokens": sizes},))
    assert build_engine(artifact.path, recipe, tmp_path / "decoder.engine", timeout_s=600).bytes > 0


def test_the_command_line_makes_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "decoder.onnx"
    words = ("convert", str(folder), "--context", str(CONTEXT), "--to", "onnx", "-o", str(output))
    assert main(words) == 0, capsys.readouterr()
    np.testing.assert_allclose(
        logits_by_pieces(output, TOKENS, (5, 1, 1, 1, 1)), llama_logits(llama_weights(), TOKENS), atol=1e-4
    )


def test_a_context_has_room_for_a_token(decoder: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context is 0, expected 1 or more"):
        export_with_past(decoder, tmp_path, context=0)


def test_weights_beside_the_file(decoder: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a decoder beyond 2 GB has them, here with both limits lowered."""
    whole = made(decoder, tmp_path / "whole", "fp32")
    monkeypatch.setattr(conversion, "MOST_BYTES", whole.path.stat().st_size // 2)
    monkeypatch.setattr(matrices, "LEAST_BYTES", 512)
    apart = made(decoder, tmp_path / "apart", "fp32")
    assert whole.data is None
    assert apart.data == apart.path.with_name("fp32.onnx.data")
    assert apart.path.stat().st_size + apart.data.stat().st_size > whole.path.stat().st_size
    pieces = (4, 1, 3, 1)
    np.testing.assert_allclose(
        logits_by_pieces(apart.path, TOKENS, pieces), logits_by_pieces(whole.path, TOKENS, pieces), atol=1e-5
    )
