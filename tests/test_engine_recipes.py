"""How the recipe of an engine comes from a target's profile or a project file into the bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit import engine_recipes, planning
from edgekit.bundle import Bundle
from edgekit.conversion import Artifact
from edgekit.engine_recipes import check_inputs, for_file
from edgekit.errors import ConfigError
from edgekit.manifest import Binding
from edgekit.measuring import describe
from edgekit.planning import PlannedVariant, plan
from edgekit.profiles import load_target
from edgekit.project import load_project
from edgekit.tensorrt.recipe import Recipe, Shapes
from edgekit.tensors import TensorSpec
from tests.test_project import PROJECT
from tests.tiny_models import Part, float_onnx, pack

BATCHES = Recipe(profiles=({"image": Shapes((1, 4), (4, 4), (8, 4))},), workspace_bytes=1 << 28)
JETSON = "jetson-orin-nano"


def of_planned(made: planning.Plan) -> dict[str, Recipe | None]:
    return {variant.id: variant.tensorrt for variant in made.variants}


class TestPlanning:
    def test_a_board_that_builds_engines_gives_its_onnx_a_recipe(self) -> None:
        assert of_planned(plan({JETSON: ["int8"], "local": ["fp32"]})) == {
            "onnx-int8": Recipe(),
            "tflite-fp32": None,
            "onnx-fp32": None,
        }

    def test_what_the_project_says_comes_first(self) -> None:
        assert of_planned(plan({JETSON: ["int8"]}, recipes={JETSON: BATCHES})) == {"onnx-int8": BATCHES}

    def test_a_target_without_a_recipe_shares_the_variant(self) -> None:
        (shared,) = [item for item in plan([JETSON, "local"]).variants if item.id == "onnx-int8"]
        assert (shared.targets, shared.tensorrt) == ((JETSON, "local"), Recipe())

    def test_two_targets_that_differ(self) -> None:
        with pytest.raises(ConfigError, match=r"targets 'jetson-orin-nano' and 'local' share onnx-int8 and differ in"):
            plan({JETSON: ["int8"], "local": ["int8"]}, recipes={"local": BATCHES})
        assert plan({JETSON: ["int8"], "local": ["fp32"]}, recipes={"local": BATCHES})

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "jetson-orin",
                r"a TensorRT recipe for 'jetson-orin', which is no target here; did you mean 'jetson-orin-n",
            ),
            (
                "android-arm64",
                r"target 'android-arm64' takes no ONNX, from which TensorRT builds: leave out its recipe",
            ),
        ],
    )
    def test_a_recipe_for_the_wrong_target(self, name: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            plan([JETSON, "android-arm64"], recipes={name: BATCHES})


class TestProject:
    TABLE = "[targets.local]\n[targets.local.tensorrt]\nworkspace_bytes = 1_000\n"

    def write(self, folder: Path, new: str) -> Path:
        (folder / "labels.txt").write_text("zero\none\n")
        path = folder / "project.toml"
        path.write_text(PROJECT.replace("[targets.local]\n", new))
        return path

    def test_it_is_read(self, tmp_path: Path) -> None:
        assert load_project(self.write(tmp_path, self.TABLE)).tensorrt == {"local": Recipe(workspace_bytes=1_000)}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("workspace_bytes", "workspace", r"unknown key 'workspace' in \[targets.local.tensorrt\]; did you mean"),
            ("1_000", "0", r"workspace_bytes is 0, expected at least 1"),
            ("targets.local.", "targets.android-arm64.", r"\[targets\]: target 'android-arm64' takes no ONNX"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        path = self.write(tmp_path, self.TABLE.replace(f"[{old}", f"[{new}").replace(old, new, 1))
        with pytest.raises(ConfigError, match=message):
            load_project(path)


class TestInputs:
    @pytest.mark.parametrize(
        ("name", "rank", "message"),
        [
            ("imgae", 2, r"a TensorRT profile names 'imgae', no input of the model; did you mean 'image'\?"),
            ("image", 4, r"a TensorRT profile gives 'image' 4 sizes, expected 2, batch first"),
        ],
    )
    def test_profiles_that_do_not_fit_the_model(self, name: str, rank: int, message: str) -> None:
        sizes = (1,) * rank
        recipe = Recipe(profiles=({name: Shapes(sizes, sizes, sizes)},))
        with pytest.raises(ConfigError, match=message):
            check_inputs(recipe, [TensorSpec("image", (None, 4), "float32")])

    def test_profiles_get_the_files_names(self) -> None:
        check_inputs(BATCHES, [TensorSpec("image", (None, 4), "float32")])
        recipe = for_file(BATCHES, [Binding("image", "input_1", "float32")])
        assert recipe == dataclasses.replace(BATCHES, profiles=({"input_1": BATCHES.profiles[0]["image"]},))
        assert for_file(None, ()) is None


def test_it_goes_into_the_manifest_and_comes_out_of_the_bundle(tmp_path: Path) -> None:
    file = tmp_path / "onnx-fp32.onnx"
    file.write_bytes(float_onnx())
    bindings = (Binding("image", "input_1", "float32"),)
    artifact = Artifact(
        "onnx", "fp32", file, bindings, (Binding("scores", "output_1", "float32"),), "onnxruntime", "1.20"
    )
    planned = PlannedVariant("onnx", "fp32", (JETSON,), (), tensorrt=BATCHES)
    variant = describe(planned, artifact, ())
    assert variant.tensorrt is not None
    part = Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=variant.tensorrt)
    with Bundle.open(pack(tmp_path, (part,))) as bundle:
        assert bundle.manifest.variants[0].tensorrt == variant.tensorrt
        assert "input_1" in variant.tensorrt.profiles[0]


def test_the_board_of_the_profile_builds() -> None:
    assert load_target(JETSON).tensorrt == Recipe()
    assert load_target("local").tensorrt is None
    assert engine_recipes.BUILT_FROM in load_target(JETSON).formats
