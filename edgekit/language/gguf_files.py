"""GGUF, llama.cpp's file of weights (github.com/ggml-org/ggml, docs/gguf.md), read as if it were a folder of them.

Names of metadata and tensors become those of the hub, and the order in which llama.cpp stores the rows of queries and
keys is undone. Quantized weights become float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: values of metadata

import numpy as np

from edgekit import workers
from edgekit.errors import ModelError, did_you_mean
from edgekit.files import sha256_file
from edgekit.language.folders import PretrainedFolder
from edgekit.tensors import Array

_READER = "edgekit.language.gguf_worker"
_TIMEOUT_S = 300.0
_ARCHITECTURES = ("llama",)
_KEYS = {  # of config.json -> behind "llama."
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "rope_scaling": "rope.scaling.type",
}
_END = "tokenizer.ggml.eos_token_id"
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies in the file."""

    name: str
    kind: str  # of GGML, such as "Q8_0"
    offset: int
    bytes: int


@dataclass(frozen=True)
class GgufFile(PretrainedFolder):
    """A GGUF file with the names of a folder from the hub."""

    stored: Mapping[str, Stored]  # by the hub's name

    @property
    def origin(self) -> Path:
        """The file itself: its metadata stand for config.json."""
        return self.path

    @property
    def beside(self) -> Path:
        """The folder that it lies in."""
        return self.path.parent

    def shown(self, name: str) -> str:
        """What the file calls a key of config.json, or a tensor."""
        if name in _KEYS:
            return f"llama.{_KEYS[name]}"
        *before, kind = name.split(".")
        whole = {hub: own for own, hub in _WHOLE.items()}
        if ".".join(before) in whole:
            return f"{whole['.'.join(before)]}.{kind}"
        parts = {hub: own for own, hub in _PARTS.items()}
        return f"blk.{before[2]}.{parts['.'.join(before[3:])]}.{kind}" if before[:2] == ["model", "layers"] else name

    def tensor(self, name: str) -> Array:
        """One tensor as float32, dequantized. Raises ModelError for a kind that the package gguf does not compute."""
        from gguf import GGMLQuantizationType, dequantize

        stored, shape = self.stored[name], self.shapes[name]
        raw = np.fromfile(self.path, np.uint8, stored.bytes, offset=stored.offset)
        try:
            found = dequantize(raw.reshape(*shape[:-1], -1), GGMLQuantizationType[stored.kind])
        except NotImplementedError as problem:
            raise ModelError(
                f"{self.path}: '{stored.name}' holds {stored.kind}, which cannot be made floats"
            ) from problem
        return np.asarray(self._in_order(name, found.reshape(shape)), np.float32)

    def sha256(self) -> str:
        """Hex sha256 of the file."""
        return sha256_file(self.path)

    def _in_order(self, name: str, values: Array) -> Array:
        """Queries and keys as the hub has them: llama.cpp interleaves the two halves of each head's rows."""
        part = name.split(".")[-2]
        if part not in ("q_proj", "k_proj"):
            return values
        heads = self.number("num_attention_heads")
        heads = heads if part == "q_proj" else self.number("num_key_value_heads", heads)
        pairs = values.reshape(heads, -1, 2, *values.shape[1:])
        return np.asarray(pairs.swapaxes(1, 2).reshape(values.shape))


def open_gguf(path: Path) -> GgufFile:
    """Read the metadata and the table of tensors. Raises ModelError for what is no decoder of Llama's kind."""
    header = workers.call(_READER, {"path": str(path)}, timeout_s=_TIMEOUT_S, what=f"opening {path}", error=ModelError)
    fields, tensors = header["fields"], header["tensors"]
    kind = str(fields.get("general.architecture"))
    if kind not in _ARCHITECTURES:
        raise ModelError(f"{path}: general.architecture is '{kind}'{did_you_mean(kind, _ARCHITECTURES)}")
    names = {tensor["name"]: _hub_name(path, tensor["name"]) for tensor in tensors}
    shapes = {names[tensor["name"]]: tuple(tensor["shape"]) for tensor in tensors}
    stored = {names[it["name"]]: Stored(it["name"], it["kind"], it["offset"], it["bytes"]) for it in tensors}
    return GgufFile(path, _config(path, fields, shapes), dict.fromkeys(shapes, path), shapes, stored)


def _hub_name(path: Path, name: str) -> str:
    own, _, kind = name.rpartition(".")
    block = _BLOCK.fullmatch(own)
    if block is None and own in _WHOLE and kind == "weight":
        return f"{_WHOLE[own]}.{kind}"
    if block is not None and block[2] in _PARTS and kind in ("weight", "bias"):
        return f"model.layers.{block[1]}.{_PARTS[block[2]]}.{kind}"
    raise ModelError(f"{path}: holds '{name}', which a decoder of Llama's kind has no place for: another architecture")


def _config(path: Path, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The metadata in the words of config.json."""
    found = {key: fields[f"llama.{own}"] for key, own in _KEYS.items() if f"llama.{own}" in fields}
    if found.get("rope_scaling") == "none":
        del found["rope_scaling"]
    if _END in fields:
        found["eos_token_id"] = fields[_END]
    rows = shapes.get("model.embed_tokens.weight", (0,))[0]
    found |= {
        "model_type": "llama",
        "vocab_size": rows,
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in shapes,
    }
    size = found.get("head_dim") or found.get("hidden_size", 0) // max(found.get("num_attention_heads", 1), 1)
    for key, wanted in (("rope.dimension_count", size), ("attention.value_length", size), ("expert_count", 0)):
        if fields.get(f"llama.{key}", wanted) != wanted:
            raise ModelError(f"{path}: llama.{key} is {fields[f'llama.{key}']}, expected {wanted}")
    return found
