"""GGUF files that llama.cpp's own package writes, against folders of safetensors with the same weights."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.language.gguf_files import open_gguf
from edgekit.loading import LoadedModel, load
from tests.language.pretrained_folders import LLAMA, WORDS, Weights, llama_weights, tokenizer_json, write_folder

HEADS, GROUPS = 4, 2
CONFIG = {**LLAMA, "hidden_size": 32, "intermediate_size": 64}
TOKENS = np.array([2, 5, 7, 9, 11, 4, 3], np.int32)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip
METADATA = {
    "llama.context_length": 32, "llama.embedding_length": 32, "llama.feed_forward_length": 64, "llama.block_count": 2,
    "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": GROUPS, "llama.rope.dimension_count": 8,
    "tokenizer.ggml.eos_token_id": 3,
}  # fmt: skip
REALS = {"llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 5000.0}


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's convert_hf_to_gguf.py does it."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(
    path: Path, weights: Weights, kind: str = "F32", *, architecture: str = "llama", **metadata: int | str
) -> Path:
    """Norms are float32 whatever the kind, as llama.cpp writes them; None takes a key out."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in ({**METADATA, **metadata}).items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    for name, real in REALS.items():
        writer.add_float32(name, real)
    writer.add_array("tokenizer.ggml.tokens", list(WORDS))
    for name, array in weights.items():
        heads = {"q_proj": HEADS, "k_proj": GROUPS}.get(name.split(".")[-2])
        stored = permuted(array, heads) if heads else array
        for hub, own in NAMES.items():
            name = name.replace(hub, own)
        own_kind = gguf.GGMLQuantizationType[kind if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quantize(stored, own_kind), raw_dtype=own_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rounded(weights: Weights, kind: str) -> Weights:
    """What is left of weights in a file of this kind. Rows are rounded by themselves, so that their order is free."""
    own = gguf.GGMLQuantizationType[kind]
    return {
        name: gguf.dequantize(gguf.quantize(array, own), own).reshape(array.shape) if array.ndim > 1 else array
        for name, array in weights.items()
    }


def logits_of(loaded: LoadedModel) -> np.ndarray:
    return loaded.predict({"tokens": TOKENS[None]})["logits"][0]


@pytest.mark.parametrize(
    ("kind", "tied"), [("F32", True), ("F16", False), ("BF16", True), ("Q8_0", True), ("Q4_0", False)]
)
def test_computes_what_the_folder_of_the_same_weights_does(tmp_path: Path, kind: str, tied: bool) -> None:
    weights = llama_weights(tied=tied, width=32, inner=64)
    config = {**CONFIG, "tie_word_embeddings": tied}
    folder = write_folder(tmp_path / "folder", rounded(weights, kind), config, sentences=False)
    file = write_gguf(tmp_path / "tiny.gguf", weights, kind)
    from_folder, from_file = (load(path, lengths={"tokens": len(TOKENS)}) for path in (folder, file))
    np.testing.assert_allclose(logits_of(from_file), logits_of(from_folder), atol=2e-5)
    assert from_file.parameters == from_folder.parameters
    assert from_file.file_sha256 is not None


@pytest.fixture(scope="module")
def weights() -> Weights:
    return llama_weights(width=32, inner=64)


def test_another_architecture(tmp_path: Path, weights: Weights) -> None:
    file = write_gguf(tmp_path / "x.gguf", weights, architecture="lama")
    with pytest.raises(ModelError, match=r"x.gguf: general.architecture is 'lama'; did you mean 'llama'"):
        load(file)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.99])
def test_a_file_that_is_cut_short(tmp_path: Path, weights: Weights, share: float) -> None:
    file = write_gguf(tmp_path / "x.gguf", weights)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"x.gguf: not a GGUF file, or cut short .*copy it again"):
        load(file)


def test_a_list_that_is_longer_than_the_file(tmp_path: Path) -> None:
    key = struct.pack("<Q", 4) + b"list" + struct.pack("<IIQ", 9, 4, 1 << 60)  # an array of so many uint32
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + bytes(64))
    with pytest.raises(ModelError, match=r"not a GGUF file, or cut short \(it has [\d,]+ bytes, and tells of [\d,]+\)"):
        load(tmp_path / "x.gguf")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(ModelError, match=r"x.gguf: not a GGUF file, or cut short \(GGUF magic invalid\)"):
        load(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn', expected None"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count is 4, expected 8"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8, expected 0"),
        ({"llama.block_count": None}, "llama.block_count is None, expected a whole number from 1 on"),
        ({"llama.block_count": 3}, "no tensor 'blk.2.attn_norm.weight' in its 20 tensors, which x.gguf asks for"),
        ({"llama.feed_forward_length": 96}, "'blk.0.ffn_gate.weight' has shape (64, 32), x.gguf makes it (96, 32)"),
    ],
)
def test_metadata_that_do_not_fit(tmp_path: Path, weights: Weights, metadata: dict[str, int], said: str) -> None:
    file = write_gguf(tmp_path / "x.gguf", weights, **metadata)
    with pytest.raises(ModelError) as caught:
        load(file)
    assert said in str(caught.value)


def test_a_tensor_without_a_place(tmp_path: Path, weights: Weights) -> None:
    file = write_gguf(tmp_path / "x.gguf", {**weights, "rope_freqs.weight": np.ones(4, np.float32)})
    with pytest.raises(ModelError, match=r"holds 'rope_freqs.weight', which a decoder .* has no place for"):
        load(file)


def test_a_kind_that_the_package_does_not_dequantize(tmp_path: Path, weights: Weights) -> None:
    file = write_gguf(tmp_path / "x.gguf", weights)
    found = open_gguf(file)
    name = "model.embed_tokens.weight"
    held = type(found.stored[name])("token_embd.weight", "I32", found.stored[name].offset, found.stored[name].bytes)
    with pytest.raises(ModelError, match=r"'token_embd.weight' holds I32, which cannot be made floats"):
        type(found)(found.path, found.config, found.files, found.shapes, {**found.stored, name: held}).tensor(name)


def test_a_tokenizer_of_another_model_beside_it(tmp_path: Path, weights: Weights) -> None:
    file = write_gguf(tmp_path / "x.gguf", weights)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json((*WORDS, "more")))
    with pytest.raises(ModelError, match="the tokenizer is of another model"):
        load(file)


def test_the_token_that_ends_a_text(tmp_path: Path, weights: Weights) -> None:
    assert open_gguf(write_gguf(tmp_path / "x.gguf", weights)).config["eos_token_id"] == 3
