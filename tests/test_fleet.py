"""What a fleet's boards would run, and which are refused in which words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.errors import ConfigError
from edgekit.fleet import Board, BoardPlan, load_fleet, plan_fleet
from edgekit.jetpacks import load_jetpacks
from edgekit.manifest import Manifest
from edgekit.tensorrt.recipe import Recipe
from tests.tiny_models import Part, float_onnx, float_tflite, manifest_of

TFLITE = Part("tflite", "int8", float_tflite(), "litert")
FP16 = Part("onnx", "fp16", float_onnx(), "onnxruntime", recipe=Recipe())
INT8 = Part("onnx", "int8", float_onnx(), "onnxruntime", recipe=Recipe())
PLAIN = Part("onnx", "fp32", float_onnx(), "onnxruntime")
ENGINE = Part("tensorrt", "fp16", b"an engine", "tensorrt")


def manifest(*parts: Part) -> Manifest:
    return manifest_of(tuple(part.variant() for part in parts), b"")


def planned(board: Board, *parts: Part) -> BoardPlan:
    (made,) = plan_fleet(manifest(*(parts or (TFLITE, FP16, INT8, PLAIN))), [board]).boards
    return made


class TestWhatRuns:
    @pytest.mark.parametrize(
        ("board", "engine", "sm"),
        [
            (Board("a", jetpack="6.1"), "tensorrt 10.3", "SM87"),
            (Board("a", jetpack="6.2.1", module="orin-nano"), "tensorrt 10.3", "SM87"),
            (Board("a", jetpack="7.0"), "tensorrt 10.13", "SM110"),
            (Board("a", jetpack="7.2", module="orin-nx"), "tensorrt 10.16", "SM87"),
            (Board("a", jetpack="7.2", sm="SM110"), "tensorrt 10.16", "SM110"),
            (Board("a", jetpack="7.2.2", module="agx-orin", tensorrt="11.4.1"), "tensorrt 11.4.1", "SM87"),
            (Board("a", jetpack="7.2.3", module="agx-thor", tensorrt="11.5"), "tensorrt 11.5", "SM110"),
            (Board("a", jetpack="6.0", tensorrt="10.3", sm="SM87"), "tensorrt 10.3", "SM87"),
            (Board("a", tensorrt="10.3.0.30", sm="SM87"), "tensorrt 10.3.0.30", "SM87"),
            (Board("a", tensorrt="11.2", sm="SM89"), "tensorrt 11.2", "SM89"),
        ],
    )
    def test_boards_that_build(self, board: Board, engine: str, sm: str) -> None:
        made = planned(board)
        assert (made.refused, made.engine, made.sm) == (None, engine, sm)
        assert (made.variant, made.precision) == ("onnx-int8", "int8")

    def test_what_is_built_where_and_what_is_passed_over(self) -> None:
        made = planned(Board("arms", count=12, jetpack="6.2"))
        size = len(float_onnx())
        assert made.build == f"the engine of onnx-int8.onnx ({size:,} bytes), on each of the 12 boards, once"
        assert {item.variant: item.reason for item in made.passed_over} == {
            "onnx-fp16": "'onnx-int8' comes before it",
            "onnx-fp32": "it carries no recipe for TensorRT",
            "tflite-int8": "it carries no recipe for TensorRT",
        }
        assert (
            planned(Board("one", jetpack="6.2")).build
            == f"the engine of onnx-int8.onnx ({size:,} bytes), on the board, once"
        )

    def test_it_holds_nothing_that_only_a_board_can_tell(self) -> None:
        names = {field.name for field in dataclasses.fields(BoardPlan)}
        assert not [name for name in names if name.endswith(("_ms", "_s", "_bytes"))]

    def test_a_variant_that_cannot_be_built_there_gives_way(self) -> None:
        dla = dataclasses.replace(INT8, recipe=Recipe(dla_core=0))
        made = planned(Board("a", jetpack="7.2", module="agx-orin"), dla, FP16)
        assert made.variant == "onnx-fp16"
        (passed,) = made.passed_over
        assert passed.reason == "its recipe asks for DLA core 0, which TensorRT 10.16 does not have there"

    @pytest.mark.parametrize(
        ("board", "built"),
        [
            (Board("a", jetpack="6.2"), True),
            (Board("a", jetpack="6.2", tensorrt="10.7.0.23"), True),
            (Board("a", jetpack="6.2", tensorrt="10.8"), False),
            (Board("a", jetpack="7.0"), False),
            (Board("a", jetpack="7.2.2", module="agx-orin", tensorrt="11.4.1"), True),
            (Board("a", jetpack="7.2.2", module="agx-thor", tensorrt="11.4.1"), False),
        ],
    )
    def test_a_dla_core(self, board: Board, built: bool) -> None:
        assert (planned(board, dataclasses.replace(INT8, recipe=Recipe(dla_core=0))).refused is None) is built


class TestRefusals:
    @pytest.mark.parametrize(
        ("board", "message"),
        [
            (
                Board("a", jetpack="5.1.3", module="agx-orin"),
                "JetPack 5.1.3 has TensorRT 8.5.2, older than 10.3: update it",
            ),
            (Board("a", jetpack="5.1"), "JetPack 5.1 has TensorRT 8.5.2, older than 10.3: update it to JetPack 6.1 or"),
            (
                Board("a", jetpack="5.1", module="xavier-nx"),
                "Xavier (SM72) gets no JetPack after 5, whose TensorRT 8.5",
            ),
            (Board("a", tensorrt="10.3", sm="SM72"), "Xavier (SM72) gets no JetPack after 5"),
            (Board("a", tensorrt="8.6.2", sm="SM87"), "it has TensorRT 8.6.2, older than 10.3: update it"),
            (
                Board("a", jetpack="8.0"),
                "JetPack 8.0 is not known here (known: 5.1, 6.1, 6.2, 7.0, 7.1, 7.2): give tens",
            ),
            (
                Board("a", jetpack="6.0"),
                "JetPack 6.0 has a TensorRT older than 10.3: update it to JetPack 6.1",
            ),
            (
                Board("a", jetpack="4.6"),
                "JetPack 4.6 has a TensorRT older than 10.3: update it to",
            ),
            (Board("a", jetpack="5.0", module="agx-xavier"), "Xavier (SM72) gets no JetPack after 5, whose TensorRT"),
            (Board("a", jetpack="7.2"), "its GPU is not known: JetPack 7.2 runs on SM87 and SM110; give module, or sm"),
            (Board("a", tensorrt="10.3"), 'its GPU is not known: give sm, for example sm = "SM87"'),
            (
                Board("a", jetpack="6.2", module="agx-thor"),
                "JetPack 6.2 does not run on agx-thor (it runs on agx-orin, o",
            ),
            (
                Board("a", jetpack="7.2.2", module="agx-thor", tensorrt="11.0"),
                "TensorRT 11.0 supports no JetPack: 11.0 to ",
            ),
            (Board("a", jetpack="7.2.2", module="agx-thor", tensorrt="11.4.0"), "TensorRT 11.4.0 supports no JetPack"),
            (Board("a", tensorrt="11.3", sm="SM87"), "TensorRT 11.3 supports no JetPack: 11.0 to 11.4.0 do not; keep"),
            (Board("a", jetpack="6.2", tensorrt="11.4.1"), "TensorRT 11.4.1 needs JetPack 7.2.2 or newer, it has 6.2"),
            (
                Board("a", tensorrt="11.4.1", sm="SM87"),
                "TensorRT 11.4.1 needs JetPack 7.2.2 or newer, it has none given",
            ),
            (
                Board("a", jetpack="7.2.2", module="orin-nano", tensorrt="11.4.1"),
                "TensorRT 11.4.1 supports AGX Orin and Thor alone, it is orin-nano",
            ),
        ],
    )
    def test_boards_that_are_refused(self, board: Board, message: str) -> None:
        made = planned(board)
        assert made.refused is not None
        assert message in made.refused
        assert (made.variant, made.build, made.engine) == (None, None, None)

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            (
                TFLITE,
                "TensorRT builds no variant of the bundle there: 'tflite-int8': it carries no recipe for TensorRT",
            ),
            (PLAIN, "'onnx-fp32': it carries no recipe for TensorRT"),
            (
                ENGINE,
                "'tensorrt-fp16': it is a TensorRT engine, which holds code and runs on a machine like that",
            ),
            (
                dataclasses.replace(INT8, recipe=Recipe(compute_capabilities=("SM89",))),
                "its recipe names compute capabilities, which TensorRT-RTX alone builds for",
            ),
        ],
    )
    def test_bundles_that_a_board_can_build_nothing_of(self, part: Part, message: str) -> None:
        refused = planned(Board("a", jetpack="6.2"), part).refused
        assert refused is not None
        assert message in refused


class TestFiles:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "fleet.toml"
        path.write_text(text)
        return path

    def test_boards_are_read(self, tmp_path: Path) -> None:
        text = (
            '[[board]]\nname = "a"\njetpack = "6.2"\ncount = 3\n[[board]]\nname = "b"\ntensorrt = "10.3"\nsm = "SM87"\n'
        )
        assert load_fleet(self.write(tmp_path, text)) == (
            Board("a", 3, jetpack="6.2"),
            Board("b", tensorrt="10.3", sm="SM87"),
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", r"fleet.toml: no boards; add a table such as \[\[board\]\] with a name and jetpack = \"6.2\""),
            ("[[board]]\njetpack = '6.2'", r"missing key 'name' in \[board\[0\]\]"),
            ("[[board]]\nname = 'a'", r"board 'a': give jetpack, for example \"6.2\", or tensorrt and sm"),
            (
                "[[board]]\nname = 'a'\njetpak = '6.2'",
                r"unknown key 'jetpak' in \[board\[0\]\]; did you mean 'jetpack'",
            ),
            ("[[board]]\nname = 'a'\njetpack = 6.2", r"jetpack is 6.2, expected a string"),
            ("[[board]]\nname = 'a'\njetpack = '6.2'\ncount = 0", r"board 'a': count is 0, expected at least 1"),
            ("[[board]]\nname = 'a'\ntensorrt = '10.3'\nsm = '8.7'", r"sm is '8.7', expected SM and its number"),
            (
                "[[board]]\nname = 'a'\njetpack = '6.2'\nmodule = 'orin-nanu'",
                r"unknown module 'orin-nanu'; did you mean",
            ),
            (
                "[[board]]\nname = 'a'\njetpack = '6.2'\nmodule = 'orin-nx'\nsm = 'SM110'",
                r"orin-nx is SM87, sm says SM110",
            ),
            (
                "[[board]]\nname = 'a'\njetpack = '6.2'\n" * 2,
                r"two boards are called 'a'; give each kind of board a name",
            ),
            ("[[board", r"fleet.toml: not TOML"),
            ("[board]\nname = 'a'", r"expected a list of tables; write \[\[board\]\]"),
            ("[[board]]\nname = 'a'\njetpack = 'six'", r"jetpack is 'six', expected a version, for example \"6.2\""),
            (
                "[[board]]\nname = 'a'\ntensorrt = '8.6-ga'\nsm = 'SM87'",
                r"tensorrt is '8.6-ga', expected a version, for example \"10.3\"",
            ),
        ],
    )
    def test_mistakes(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_fleet(self.write(tmp_path, text))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none.toml: "):
            load_fleet(tmp_path / "none.toml")


def test_what_is_known_of_jetpacks_has_sources_and_agrees_with_itself() -> None:
    known = load_jetpacks()
    assert all(source.startswith("https://") for source in known.sources)
    for release in known.releases.values():
        assert set(release.modules) <= set(known.modules)
    assert known.find("6.2.1") == known.releases["6.2"]
    assert known.find("6") is None
