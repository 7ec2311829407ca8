"""A decoder as a `.tflite` that goes on from token to token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import converter

from edgekit.cli import main
from edgekit.decoding import export_decoder
from edgekit.decoding_worker import export_apart
from edgekit.errors import ConfigError
from edgekit.loading import LoadedModel, load
from tests.language.pretrained_folders import LLAMA, llama_logits, llama_weights, write_folder

TOKENS = np.array([2, 5, 7, 9, 11, 4, 3, 8, 6], np.int32)
CONTEXT, PIECE = 12, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("decoding") / "tiny", llama_weights(), dict(LLAMA), sentences=False)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> LoadedModel:
    return load(folder, lengths={"tokens": CONTEXT})


def place(number: int) -> np.ndarray:
    return np.array([number], np.int32)


def test_goes_on_where_it_stopped_and_begins_anew(decoder: LoadedModel, tmp_path: Path) -> None:
    source = export_decoder(decoder, tmp_path, context=CONTEXT, prefill=PIECE)
    made = converter.convert(source, precision="fp32", calibration=None, output=tmp_path / "decoder.tflite")
    interpreter = Interpreter(str(made.path))
    prefill, decode = (interpreter.get_signature_runner(name) for name in ("prefill", "decode"))
    expected = llama_logits(llama_weights(), TOKENS)
    for _ in range(2):  # the second text finds the keys and values of the first behind its position
        padded = np.array([*TOKENS[4:6], 0, 0], np.int32)
        assert prefill(tokens=TOKENS[None, :4], position=place(0))["next"] == [4]
        prefill(tokens=padded[None], position=place(4))
        for number in range(6, len(TOKENS)):
            got = decode(tokens=TOKENS[None, number : number + 1], position=place(number))["logits"]
            np.testing.assert_allclose(got[0], expected[number], atol=1e-5)


def test_a_tied_table_is_stored_once(decoder: LoadedModel, tmp_path: Path) -> None:
    source = export_decoder(decoder, tmp_path, context=CONTEXT, prefill=PIECE)
    made = converter.convert(source, precision="fp32", calibration=None, output=tmp_path / "decoder.tflite")
    table = decoder.model.get_layer("embedding").embeddings.numpy()
    scaled = table * decoder.model.get_layer("last_norm").scale.numpy()
    content = made.path.read_bytes()
    assert content.count(table.tobytes()) == 1
    assert scaled.tobytes() not in content


def test_a_process_apart_gives_the_same_source(folder: Path, decoder: LoadedModel, tmp_path: Path) -> None:
    here, apart = tmp_path / "here", tmp_path / "apart"
    here.mkdir()
    apart.mkdir()
    expected = export_decoder(decoder, here, context=CONTEXT, prefill=PIECE)
    found = export_apart(folder, apart, format_name="tflite", context=CONTEXT, prefill=PIECE)
    moved = {name: apart / getattr(expected, name).name for name in ("float_model", "constants")}
    assert found == replace(expected, work=apart, **moved)
    assert found.constants is not None
    for path in (here / "constants").iterdir():
        np.testing.assert_array_equal(np.load(path), np.load(found.constants / path.name))


def test_the_command_line_makes_both_signatures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "decoder.tflite"
    context = ("--context", str(CONTEXT), "--prefill", str(PIECE))
    words = ("convert", str(folder), *context, "--to", "tflite", "--precision", "dynamic-int8", "-o", str(output))
    assert main(words) == 0, capsys.readouterr()
    assert set(Interpreter(str(output)).get_signature_list()) == {"prefill", "decode"}


@pytest.mark.parametrize(("context", "prefill"), [(10, 4), (0, 4), (8, 0)])
def test_a_context_is_made_of_whole_pieces(decoder: LoadedModel, tmp_path: Path, context: int, prefill: int) -> None:
    with pytest.raises(ConfigError, match=f"context is {context}, expected a multiple of prefill, which is {prefill}"):
        export_decoder(decoder, tmp_path, context=context, prefill=prefill)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "tflite", "--context", "64"), "a length of 64, and the model has 32 positions"),
        (("--to", "onnx", "--context", "64"), "a length of 64, and the model has 32 positions"),
        (
            ("--to", "onnx", "--context", "12", "--prefill", "4"),
            "--prefill is for --to tflite: a decoder's .onnx takes any",
        ),
        (("--to", "tflite", "--prefill", "4"), "--prefill goes with --context"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    output = tmp_path / f"decoder.{words[1]}"
    assert main(("convert", str(folder), *words, "-o", str(output))) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()
