"""Hostile and damaged files: each is refused in one line, before anything of it is run or allocated."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.model_files import Kind, examine

CONFIG = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": []}}


def refused(path: Path, *, allow_code: bool = False) -> str:
    with pytest.raises(ModelError) as caught:
        examine(path, allow_code=allow_code)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def archive(path: Path, config: Any = CONFIG, weights: Callable[[Any], None] | None = None, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", json.dumps(config))
        for name, content in members.items():
            file.writestr(name, content)
        if weights is not None:
            inner = path.with_suffix(".inner")
            with h5py.File(inner, "w") as stored:
                weights(stored)
            file.write(inner, "model.weights.h5")
    return path


def external_link(file: Any) -> None:
    file["layers"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: Any) -> None:
    file.create_group("layers")["escapes"] = h5py.SoftLink("/somewhere/else")


def external_storage(file: Any) -> None:
    file.create_dataset("w", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "w", (4,))
    file.create_virtual_dataset("w", layout)


def declared_only(file: Any) -> None:
    file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 10,))


def bomb(file: Any) -> None:
    file.create_dataset("w", (1 << 28,), "f4", chunks=(1 << 20,), compression="gzip")


HOSTILE = {
    external_link: "'/layers' is a link to '/etc/passwd:/x'",
    soft_link: "'/layers/escapes' is a link to '/somewhere/else'",
    external_storage: "array '/w' lies in another file",
    virtual: "array '/w' lies in another file",
    declared_only: "declares 4,398,046,511,104 bytes of weights, at most 8,589,934,592 are loaded",
    bomb: "declares 1,073,741,824 bytes of weights in a file of",
}


@pytest.mark.parametrize("write", HOSTILE, ids=lambda write: write.__name__)
def test_hostile_weights(tmp_path: Path, write: Callable[[Any], None]) -> None:
    with h5py.File(tmp_path / "hostile.h5", "w") as file:
        write(file)
    assert HOSTILE[write] in refused(tmp_path / "hostile.h5")
    assert HOSTILE[write] in refused(archive(tmp_path / "hostile.keras", weights=write))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file.create_group("a")["again"] = file["/"]
    assert examine(tmp_path / "circle.h5", allow_code=False).kind is Kind.WEIGHTS


def test_too_many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.model_files.MAX_OBJECTS", 10)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(11):
            file.create_group(str(number))
    assert "more than 10 groups and arrays" in refused(tmp_path / "many.h5")


def test_a_member_that_leads_out(tmp_path: Path) -> None:
    for name in ("../out", "/abs", "a\\..\\..\\out"):
        message = refused(archive(tmp_path / "out.keras", **{name: b"x"}))
        assert "leads out of the archive" in message


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.keras", zeros=bytes(100 << 20))
    assert "declares 104," in refused(path)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = archive(tmp_path / "name.keras", é=b"x")
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    assert "can't decode byte 0xff" in refused(path)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (zipfile.ZIP_DEFLATED, "Error -3 while decompressing data"),
        (zipfile.ZIP_BZIP2, "Invalid data stream"),
        (zipfile.ZIP_LZMA, "Corrupt input data"),
    ],
)
def test_a_damaged_stream(method: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.keras"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("config.json", json.dumps(CONFIG) * 50)
    content = bytearray(path.read_bytes())
    content[50:90] = b"\xff" * 40
    path.write_bytes(content)
    assert words in refused(path)


def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "twice.keras")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", "{}")
    assert "some of one name" in refused(path)


def nested(depth: int) -> Any:
    config: Any = CONFIG
    for _ in range(depth):
        config = [config]
    return config


def test_a_config_that_is_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"config":' * 100_000 + "1" + "}" * 100_000)
    assert "nested too deeply" in refused(path)


CODE = {
    "Lambda": {"class_name": "Lambda", "config": {"name": "bad", "function": ["4wEA", None, None]}},
    "TFSMLayer": {"class_name": "TFSMLayer", "config": {"name": "bad", "filepath": "/x"}},
    "lambda": {
        "class_name": "Dense",
        "config": {"name": "bad", "activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}},
    },
    "function_type": {"class_name": "Odd", "config": {"name": "bad", "function_type": "lambda", "function": []}},
}


@pytest.mark.parametrize("layer", CODE.values(), ids=CODE)
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"class_name": "Wrapper", "config": {"name": "w", "layer": x}}]
)
def test_code_at_any_depth_is_refused(tmp_path: Path, layer: Any, wrap: Callable[[Any], Any]) -> None:
    config = {"class_name": "Sequential", "config": {"name": "outer", "layers": [wrap(layer)]}}
    with h5py.File(tmp_path / "code.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
    for path in (tmp_path / "code.h5", archive(tmp_path / "code.keras", config)):
        assert "layer 'bad' (" in refused(path)
        assert "can run code when it is loaded" in refused(path)
        assert examine(path, allow_code=True).kind in (Kind.HDF5, Kind.KERAS_3)


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["w"] = np.zeros(3)
    assert examine(tmp_path / "weights.h5", allow_code=False).kind is Kind.WEIGHTS
    assert examine(archive(tmp_path / "three.keras"), allow_code=False).kind is Kind.KERAS_3
    (tmp_path / "saved").mkdir()
    assert "a folder without saved_model.pb" in refused(tmp_path / "saved")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert examine(tmp_path / "saved", allow_code=False).kind is Kind.PLAIN_SAVED_MODEL
    assert "pass the folder that holds it" in refused(tmp_path / "saved" / "saved_model.pb")


@pytest.mark.parametrize("kept", [8, 100, 1000])
def test_an_hdf5_file_that_was_cut_short(tmp_path: Path, kept: int) -> None:
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["w"] = np.zeros(3000)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:kept])
    assert "damaged or cut short" in refused(tmp_path / "cut.h5")
