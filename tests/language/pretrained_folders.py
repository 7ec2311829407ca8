"""Tiny folders of random weights, laid out as the hub lays them out, and what they compute, in numpy alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "the", "very", "long", "not")
BERT = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 16,
    "intermediate_size": 48,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": len(WORDS),
}
POOLING = "1_Pooling/config.json"
Weights = dict[str, np.ndarray]


def bert_weights(seed: int = 0) -> Weights:
    generator = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 0.5) -> np.ndarray:
        return generator.normal(0, scale, shape).astype(np.float32)

    width, inner = 16, 48
    found = {
        "embeddings.word_embeddings.weight": draw(len(WORDS), width),
        "embeddings.position_embeddings.weight": draw(24, width),
        "embeddings.token_type_embeddings.weight": draw(2, width),
    }
    shapes = {"embeddings.LayerNorm": (width,)}
    for block in range(2):
        own = f"encoder.layer.{block}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes[f"{own}.{part}"] = (width, width)
        shapes |= {f"{own}.attention.output.LayerNorm": (width,), f"{own}.output.LayerNorm": (width,)}
        shapes |= {f"{own}.intermediate.dense": (inner, width), f"{own}.output.dense": (width, inner)}
    for name, shape in shapes.items():
        norm = "LayerNorm" in name
        found[f"{name}.weight"] = draw(*shape, scale=0.2) + np.float32(norm)
        found[f"{name}.bias"] = draw(shape[0], scale=0.2)
    return found


def write_folder(path: Path, weights: Weights, config: dict[str, object], *, sentences: bool = True) -> Path:
    """The folder, with a tokenizer of WORDS; with `sentences`, of a sentence encoder that pools by the mean."""
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(tokenizer_json())
    if sentences:
        kinds = ("Transformer", "Pooling", "Normalize")
        modules = [{"idx": index, "type": f"sentence_transformers.models.{kind}"} for index, kind in enumerate(kinds)]
        (path / "modules.json").write_text(json.dumps(modules))
        (path / POOLING).parent.mkdir(exist_ok=True)
        (path / POOLING).write_text(json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}))
    return path


def tokenizer_json(words: tuple[str, ...] = WORDS) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(WORDS[:4]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str()


def bert_states(weights: Weights, tokens: np.ndarray, heads: int = 4, blocks: int = 2) -> np.ndarray:
    """The last hidden states (length, width) of one text without padding: Devlin et al. 2019, in float64."""
    found = {name: array.astype(np.float64) for name, array in weights.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ found[f"{name}.weight"].T + found[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * found[f"{name}.weight"] + found[f"{name}.bias"]

    x = found["embeddings.word_embeddings.weight"][tokens]
    x = x + found["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + found["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    each = x.shape[-1] // heads
    for block in range(blocks):
        own = f"encoder.layer.{block}"
        query, key, value = (
            linear(x, f"{own}.attention.self.{part}").reshape(len(tokens), heads, each).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        mixed = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(each)) @ value
        attended = linear(mixed.transpose(1, 0, 2).reshape(x.shape), f"{own}.attention.output.dense")
        x = norm(x + attended, f"{own}.attention.output.LayerNorm")
        inner = gelu(linear(x, f"{own}.intermediate.dense"))
        x = norm(x + linear(inner, f"{own}.output.dense"), f"{own}.output.LayerNorm")
    return x


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
    "tie_word_embeddings": True,
    "vocab_size": len(WORDS),
}


def llama_weights(seed: int = 0, *, tied: bool = True, width: int = 16, inner: int = 40) -> Weights:
    generator = np.random.default_rng(seed)
    shapes = {"model.embed_tokens": (len(WORDS), width), "model.norm": (width,)}
    if not tied:
        shapes["lm_head"] = (len(WORDS), width)
    sizes = {"q": width, "k": width // 2, "v": width // 2, "o": width}
    for block in range(2):
        own = f"model.layers.{block}"
        shapes |= {f"{own}.{part}_layernorm": (width,) for part in ("input", "post_attention")}
        shapes |= {f"{own}.self_attn.{part}_proj": (size, width) for part, size in sizes.items()}
        shapes |= {f"{own}.mlp.{part}_proj": (inner, width) for part in ("gate", "up")}
        shapes[f"{own}.mlp.down_proj"] = (width, inner)
    return {
        f"{name}.weight": (generator.normal(0, 0.4, shape) + float("norm" in name)).astype(np.float32)
        for name, shape in shapes.items()
    }


def llama_logits(weights: Weights, tokens: np.ndarray) -> np.ndarray:
    """(length, vocabulary) of one text, token by token with loops over heads: Touvron et al. 2023, in float64."""
    found = {name: array.astype(np.float64) for name, array in weights.items()}
    heads, groups, size = 4, 2, 4

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * found[f"{name}.weight"]

    def rotate(x: np.ndarray, position: int) -> np.ndarray:
        rotated = np.empty_like(x)
        for pair in range(size // 2):  # of number `pair` in each half
            angle = position * 5000.0 ** (-2 * pair / size)
            one, other = x[pair], x[pair + size // 2]
            rotated[pair] = one * math.cos(angle) - other * math.sin(angle)
            rotated[pair + size // 2] = other * math.cos(angle) + one * math.sin(angle)
        return rotated

    x = found["model.embed_tokens.weight"][tokens]
    for block in range(2):
        own = f"model.layers.{block}"
        normed = norm(x, f"{own}.input_layernorm")
        query, key, value = (normed @ found[f"{own}.self_attn.{part}_proj.weight"].T for part in "qkv")
        mixed = np.zeros((len(tokens), heads * size))
        for place in range(len(tokens)):
            for head in range(heads):
                group = head // (heads // groups)
                own_query = rotate(query[place, head * size : (head + 1) * size], place)
                scores = [
                    own_query @ rotate(key[other, group * size : (group + 1) * size], other) / math.sqrt(size)
                    for other in range(place + 1)
                ]
                share = softmax(np.array(scores))
                mixed[place, head * size : (head + 1) * size] = (
                    share @ value[: place + 1, group * size : (group + 1) * size]
                )
        x = x + mixed @ found[f"{own}.self_attn.o_proj.weight"].T
        normed = norm(x, f"{own}.post_attention_layernorm")
        gate = normed @ found[f"{own}.mlp.gate_proj.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (normed @ found[f"{own}.mlp.up_proj.weight"].T)
        x = x + inner @ found[f"{own}.mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ found.get("lm_head.weight", found["model.embed_tokens.weight"]).T
