"""Engines from ONNX files: TensorRT-RTX for real, and a fake that stands for TensorRT proper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from onnx import helper

from edgekit.devices.zipapp import write_zipapp
from edgekit.errors import BuildError, EdgekitError, OutputError
from edgekit.tensorrt.building import BuildReport, build_engine
from edgekit.tensorrt.recipe import Recipe, Shapes
from tests.onnx_graphs import convolution, model, saved

FAKE = Path(__file__).with_name("fake")
SHAPES = {"x": Shapes((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return convolution(tmp_path / "conv.onnx")


def refusal(path: Path, recipe: Recipe, *, error: type[EdgekitError] = BuildError, timeout_s: float = 60) -> str:
    """The message, in one line; nothing may be left beside the model."""
    output = path.with_name("out.engine")
    before = {item.name for item in path.parent.iterdir()}
    with pytest.raises(error) as caught:
        build_engine(path, recipe, output, timeout_s=timeout_s)
    assert {item.name for item in path.parent.iterdir()} - {"calls"} == before
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@needs_rtx
def test_an_engine_is_built_ahead_of_time(onnx_file: Path, tmp_path: Path) -> None:
    fractions: list[float] = []
    output = tmp_path / "conv.engine"
    recipe = Recipe(profiles=(SHAPES,), optimization_level=2, workspace_bytes=1 << 28, compute_capabilities=("SM89",))
    report = build_engine(onnx_file, recipe, output, timeout_s=60, progress=fractions.append)
    assert report.package == "tensorrt_rtx"
    assert report.version.startswith("1.")
    assert report.bytes == output.stat().st_size > 1000
    assert report.build_s > 0
    assert report.notes == ()
    assert "[ONNX Layer: conv]" in report.plan
    assert any(line.startswith("VERBOSE: ") for line in report.log)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@needs_rtx
def test_inputs_of_fixed_size_need_no_profile(tmp_path: Path) -> None:
    path = convolution(tmp_path / "fixed.onnx", shape=(1, 3, 8, 8))
    assert build_engine(path, Recipe(compute_capabilities=("SM86",)), tmp_path / "x.engine", timeout_s=60).bytes


@needs_rtx
@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(version_compatible=True), "has no version_compatible: it is an option of TensorRT for Jetsons"),
        (Recipe(hardware_compatibility="ampere-plus"), "has no hardware_compatibility 'ampere-plus': it is an option"),
        (Recipe(dla_core=0), "has no dla_core 0: it is an option of TensorRT for Jetsons"),
        (
            Recipe(compute_capabilities=("SM87",)),
            "builds for no GPU of 'SM87'; it knows SM75, SM80, SM86, SM89, SM120",
        ),
        (Recipe(compute_capabilities=("NONE",)), "builds for no GPU of 'NONE'; it knows SM75"),
        (Recipe(profiles=({"X1": SHAPES["x"]},)), "the profile names 'X1', which is no input"),
    ],
)
def test_rtx_refuses_what_it_would_ignore(onnx_file: Path, recipe: Recipe, message: str) -> None:
    assert message in refusal(onnx_file, recipe)


@needs_rtx
def test_a_refusal_names_the_node(tmp_path: Path) -> None:
    path = saved(model([helper.make_node("Betainc", ["x", "x", "x"], ["y"], name="only")]), tmp_path / "bad.onnx")
    told = refusal(path, Recipe())
    assert told.startswith("TensorRT-RTX 1.")
    assert " refuses bad.onnx: [Betainc] node 'only': " in told


@needs_rtx
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = saved(model([helper.make_node("Det", ["x"], ["y"], name="determinant")]), tmp_path / "bad.onnx")
    path.write_bytes(path.read_bytes().replace(b"determinant", b"determ\xffnant"))
    assert refusal(path, Recipe()).endswith(" refuses bad.onnx: a name in the file is no UTF-8 text")


@needs_rtx
def test_files_that_hold_nothing(tmp_path: Path) -> None:
    empty, bare = tmp_path / "empty.onnx", saved(model([]), tmp_path / "bare.onnx")
    empty.touch()
    bare_graph = helper.make_model(helper.make_graph([], "nothing", [], []))
    assert refusal(empty, Recipe()).endswith("empty.onnx: the file is empty")
    assert "refuses bare.onnx" in refusal(saved(bare_graph, bare), Recipe())
    assert refusal(tmp_path / "gone.onnx", Recipe()).endswith("gone.onnx: no such file")


@needs_rtx
def test_a_deadline_that_passes(onnx_file: Path) -> None:
    assert refusal(onnx_file, Recipe(), timeout_s=0.05) == "building conv.onnx with TensorRT-RTX: not done after 0 s"


@needs_rtx
def test_an_output_that_cannot_be_written(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot write"):
        build_engine(onnx_file, Recipe(), tmp_path / "file" / "x.engine", timeout_s=60)


@needs_rtx
def test_rtx_says_that_it_keeps_no_timing_cache(onnx_file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    report = build_engine(onnx_file, Recipe(), tmp_path / "x.engine", timeout_s=60, timing_cache=cache)
    assert [note.endswith("has no timing cache: timings is not written") for note in report.notes] == [True]
    assert not cache.exists()


@needs_rtx
def test_the_zipapp_of_a_board_can_build(onnx_file: Path, tmp_path: Path) -> None:
    write_zipapp(tmp_path / "runtime.pyz")
    code = (
        "import sys; sys.path[0] = 'runtime.pyz'\n"
        "import edgekit\nfrom pathlib import Path\n"
        "from edgekit.tensorrt.building import build_engine\nfrom edgekit.tensorrt.recipe import Recipe\n"
        f"build_engine(Path({str(onnx_file)!r}), Recipe(), Path('x.engine'), timeout_s=60)\n"
        "print(edgekit.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("runtime.pyz")
    assert (tmp_path / "x.engine").stat().st_size > 1000


Proper = Callable[..., tuple[BuildReport, list[str]]]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake is the TensorRT that is installed; what it is to do stands in this file."""
    path = tmp_path / "fake.json"
    path.write_text("{}")
    monkeypatch.setenv("EDGEKIT_FAKE_TENSORRT", str(path))
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(FAKE))
    return path


@pytest.fixture
def proper(settings: Path, onnx_file: Path, tmp_path: Path) -> Proper:
    """`proper(recipe, settings)`: the report and the calls of a build."""

    def build(recipe: Recipe, timing_cache: Path | None = None, **given: object) -> tuple[BuildReport, list[str]]:
        settings.write_text(json.dumps(given))
        report = build_engine(onnx_file, recipe, tmp_path / "x.engine", timeout_s=60, timing_cache=timing_cache)
        assert (tmp_path / "x.engine").read_bytes() == b"engine"
        return report, (tmp_path / "calls").read_text().splitlines()

    return build


def test_tensorrt_proper_gets_every_option(proper: Proper) -> None:
    recipe = Recipe(
        profiles=(SHAPES,), workspace_bytes=1 << 30, optimization_level=4, hardware_compatibility="ampere-plus",
        version_compatible=True,
    )  # fmt: skip
    report, calls = proper(recipe)
    assert (report.package, report.version, report.bytes) == ("tensorrt", "10.3.0.30", 6)
    assert calls == [
        "network 2",  # STRONGLY_TYPED, which is 1 in this version
        "parse conv.onnx",
        "set profiling_verbosity DETAILED",
        "pool WORKSPACE 1073741824",
        "set builder_optimization_level 4",
        "flag VERSION_COMPATIBLE",
        "set hardware_compatibility_level AMPERE_PLUS",
        "shape x (1, 3, 8, 8) (2, 3, 8, 8) (4, 3, 8, 8)",
        "set progress_monitor a monitor",
    ]


def test_layers_that_move_from_dla_to_the_gpu_are_named(proper: Proper) -> None:
    report, calls = proper(Recipe(dla_core=1), dla_cores=2, on_dla=["layer0"])
    assert report.notes == ("1 of 2 layers cannot run on DLA core 1: layer1; they run on the GPU",)
    assert calls[-4:-1] == ["set default_device_type DLA", "set DLA_core 1", "flag GPU_FALLBACK"]


def test_dla_takes_everything(proper: Proper) -> None:
    report, calls = proper(Recipe(dla_core=0), dla_cores=2, on_dla=["layer0", "layer1"])
    assert report.notes == ()
    assert "flag GPU_FALLBACK" not in calls


@pytest.mark.parametrize(
    ("recipe", "given", "message"),
    [
        (
            Recipe(dla_core=0, gpu_fallback=False), {"dla_cores": 2, "on_dla": ["layer0"]},
            "1 of 2 layers cannot run on DLA core 0: layer1; allow gpu_fallback, or leave dla_core out",
        ),
        (
            Recipe(dla_core=0), {"dla_cores": 1},
            "2 of 2 layers cannot run on DLA core 0: layer0, layer1; leave dla_core out",
        ),
        (
            Recipe(dla_core=0), {},
            "TensorRT 10.3.0 has no dla_core 0: it finds 0 DLA cores here (TensorRT has DLA up to 10.7, and from "
            "11.4.1 on an AGX Orin); leave dla_core out",
        ),
        (
            Recipe(hardware_compatibility="same-compute-capability"), {},
            "TensorRT 10.3.0 has no HardwareCompatibilityLevel 'SAME_COMPUTE_CAPABILITY'; known: AMPERE_PLUS, NONE",
        ),
        (Recipe(), {"no_gpu": True}, "TensorRT 10.3.0 cannot start on this machine: CUDA initialization failure"),
        (Recipe(), {"error": "no tactic\nfor conv"}, "TensorRT 10.3.0 refuses conv.onnx: no tactic for conv"),
        (Recipe(), {"none": True}, "TensorRT 10.3.0 refuses conv.onnx: the builder gave no reason"),
        (Recipe(), {"profile": -1}, "TensorRT 10.3.0 refuses conv.onnx: the builder gave no reason"),
    ],
)  # fmt: skip
def test_tensorrt_proper_refuses(
    settings: Path, onnx_file: Path, recipe: Recipe, given: dict[str, object], message: str
) -> None:
    settings.write_text(json.dumps(given))
    assert refusal(onnx_file, recipe) == message


def test_a_crash_is_an_error(settings: Path, onnx_file: Path) -> None:
    settings.write_text('{"crash": true}')
    assert "building conv.onnx with TensorRT: the process died of SIGABRT" in refusal(onnx_file, Recipe())


def test_compute_capabilities_are_for_rtx(settings: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.tensorrt.building.find_package", lambda **kwargs: "tensorrt")
    told = refusal(onnx_file, Recipe(compute_capabilities=("SM86",)))
    assert told == (
        "TensorRT 10.3.0 has no compute_capabilities: it builds for the GPU that it runs on; build on the device"
    )


def test_the_timing_cache_is_read_and_kept(proper: Proper, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    _, calls = proper(Recipe(), timing_cache=cache)
    assert "timing cache b''" in calls
    assert cache.read_bytes() == b"timings"
    report, calls = proper(Recipe(), timing_cache=cache)
    assert "timing cache b'timings'" in calls
    assert report.notes == ()


def test_a_damaged_timing_cache_is_begun_anew(proper: Proper, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"damaged")
    report, _ = proper(Recipe(), timing_cache=cache)
    assert report.notes == ("the timing cache timings is of another GPU or TensorRT: begun anew",)
    assert cache.read_bytes() == b"timings"


def test_no_timing_cache_is_wanted(proper: Proper, tmp_path: Path) -> None:
    _, calls = proper(Recipe(timing_cache=False), timing_cache=tmp_path / "timings")
    assert "flag DISABLE_TIMING_CACHE" in calls
    assert not (tmp_path / "timings").exists()
