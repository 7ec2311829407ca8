from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bridged() -> Any:
    """What bridge_models.py found, in a process of its own: tf_keras must not come into this one."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    argv = [sys.executable, "-m", "tests.bridge.bridge_models"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["digits", "folding", "pair", "recurrent", "sequential"])
def test_the_bridged_model_gives_the_same_outputs(bridged: Any, name: str) -> None:
    assert bridged["models"][name]["legacy"]
    assert bridged["models"][name]["max_abs"] < 1e-5


def test_inputs_outputs_and_layers_keep_names_and_order(bridged: Any) -> None:
    pair = bridged["models"]["pair"]
    assert pair["inputs"] == ["left", "right"]
    assert [shape[1:] for shape in pair["shapes"]] == [[3], [1]]
    assert {"conv", "norm", "add", "both", "shared", "score", "classes"} <= set(pair["layers"])
    assert pair["layers"].count("shared") == 1


def test_a_layer_without_a_bridge_is_named_with_its_type(bridged: Any) -> None:
    message = 'has no bridge to tf_keras yet; use engine = "keras"'
    assert bridged["refused"]["own"] == f"layer 'mine' (Own) {message}"
    assert bridged["refused"]["nested"] == f"layer 'inner' (Sequential) {message}"
