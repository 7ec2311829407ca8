from __future__ import annotations

import pytest

from edgekit.errors import ConfigError
from edgekit.profiles import load_target, parse_profile, target_names

PROFILE = """\
name = "pi5"
description = "a board"
formats = ["tflite"]
precisions = ["fp32", "int8"]
default_precisions = ["int8"]
sources = []
"""


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text, where="pi5.toml")
    return str(caught.value)


@pytest.mark.parametrize("name", target_names())
def test_every_installed_profile_is_sound(name: str) -> None:
    profile = load_target(name)
    assert profile.name == name
    assert set(profile.default_precisions) <= set(profile.precisions)


def test_the_built_in_targets_are_found() -> None:
    assert {"android-arm64", "jetson-orin-nano", "local"} <= set(target_names())


def test_an_unknown_target_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"^unknown target 'andriod-arm64'; did you mean 'android-arm64'\?$"):
        load_target("andriod-arm64")


def test_a_target_name_is_no_path() -> None:
    with pytest.raises(ConfigError, match=r"unknown target"):
        load_target("../edgekit_targets/local")


def test_an_unknown_key_in_a_profile() -> None:
    assert refused(PROFILE.replace("sources", "souces")) == "pi5.toml: unknown key 'souces'; did you mean 'sources'?"


def test_an_unknown_format_in_a_profile() -> None:
    message = refused(PROFILE.replace('"tflite"', '"tflight"'))
    assert message == "pi5.toml: unknown format 'tflight'; did you mean 'tflite'?"


def test_an_unknown_default_precision_in_a_profile() -> None:
    message = refused(PROFILE.replace('default_precisions = ["int8"]', 'default_precisions = ["int9"]'))
    assert message.startswith("pi5.toml: unknown precision 'int9'; did you mean 'int")


def test_a_profile_that_is_not_toml() -> None:
    assert refused("name = ").startswith("pi5.toml: not TOML: ")


def test_a_precision_that_is_unknown_or_not_taken() -> None:
    profile = parse_profile(PROFILE, where="pi5.toml")
    profile.check_precision("int8")
    with pytest.raises(ConfigError, match=r"target 'pi5': unknown precision 'itn8'; did you mean 'int8'\?"):
        profile.check_precision("itn8")
    with pytest.raises(ConfigError, match=r"target 'pi5' does not take precision 'fp16'; it takes fp32, int8"):
        profile.check_precision("fp16")


def test_a_delegate_in_a_profile() -> None:
    gpu = '[delegates.gpu]\nsource = "a page"\noperators = ["ADD"]\nprecisions = ["fp32"]\n'
    assert parse_profile(PROFILE + gpu, where="pi5.toml").delegates["gpu"].operators == ("ADD",)
    assert "missing key 'source'" in refused(PROFILE + gpu.replace('source = "a page"\n', ""))
    assert refused(PROFILE + gpu.replace("fp32", "fp31")).startswith("pi5.toml: unknown precision 'fp31'; did you mean")


@pytest.mark.parametrize("name", target_names())
def test_delegates_name_operators_that_tflite_has(name: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for delegate in load_target(name).delegates.values():
        assert set(delegate.operators) <= set(vars(schema.BuiltinOperator))
