from __future__ import annotations

import pytest
import tomllib

from edgekit.toml_text import toml_text, toml_value

CONTENT = {
    "name": "x",
    "numbers": [1, 2.5, True],
    "convert": {"tflite": {"layers": {"a*b": "fp32", 'é"\\': [True]}, "deep": {"er": {"still": 1}}}},
    "compress": [{"step": "prune", "layers": {"conv": {"sparsity": 0.5}, "head": "skip"}}, {"step": "cluster"}],
    "targets": {"local": {}},
    "text": "two\nlines \u0001",
}


def test_what_is_written_is_read_again() -> None:
    assert tomllib.loads(toml_text(CONTENT)) == CONTENT


def test_how_it_looks() -> None:
    assert toml_text({"a": 1, "b": {"c": {"d": [1]}}, "e": [{"f": "g"}]}) == (
        'a = 1\n\n[b]\n\n[b.c]\nd = [1]\n\n[[e]]\nf = "g"\n'
    )


def test_null_has_no_form() -> None:
    with pytest.raises(TypeError, match="TOML has no form for None"):
        toml_value(None)
