"""TensorRT engines that come in a bundle: code, so that a trusted key must have signed it, for the GPU that is here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit import trust
from edgekit.errors import EngineError
from edgekit.runtime import engine_tensorrt, engine_tensorrt_rtx, open_bundle
from edgekit.signing import make_keys, sign_bundle
from edgekit.tensorrt.recipe import Recipe
from tests.runtime.fake_board import Board
from tests.runtime.fake_tensorrt import FakeTensorRT, plan
from tests.tiny_models import IMAGES, Part, expected, float_tflite, pack

HERE = Recipe(compute_capabilities=("SM89", "SM87"))
TFLITE = Part("tflite", "int8", float_tflite(), "litert")


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MACHINE", tmp_path / "etc")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def signed(tmp_path: Path) -> Callable[..., Path]:
    """A bundle signed by the key `release`, whose public half is in the folder `keys`."""
    make_keys(tmp_path / "keys", "release")

    def make(*parts: Part) -> Path:
        path = pack(tmp_path / "bundle", parts)
        sign_bundle(path, [tmp_path / "keys" / "release.key"])
        return path

    return make


@pytest.fixture
def rtx(board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board with TensorRT-RTX beside TensorRT."""
    other = FakeTensorRT(board.trt.cuda, name="tensorrt_rtx", version="1.7.1.116")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", other)
    found = {"tensorrt": ("tensorrt", board.trt.__version__), "tensorrt_rtx": ("tensorrt-rtx", "1.7.1.116")}
    monkeypatch.setattr(engine_tensorrt, "installed_version", lambda module, names: found.get(module))
    board.trt = other
    return board


def prebuilt(engine: str = "tensorrt", recipe: Recipe | None = HERE, *, least: str = "1.0") -> Part:
    return Part("tensorrt", "fp16", plan(), engine, recipe=recipe, engine_least_version=least)


class TestTrust:
    def test_unsigned(self, board: Board, tmp_path: Path) -> None:
        with pytest.raises(
            EngineError, match=r"it is a TensorRT engine, which holds code, and no key that is trusted here signed"
        ):
            open_bundle(pack(tmp_path, (prebuilt(),)))
        assert board.trt.given == []

    def test_signed_by_nobody_who_is_trusted_here(self, board: Board, signed: Callable[..., Path]) -> None:
        with pytest.raises(EngineError, match="no key that is trusted here signed the bundle"):
            open_bundle(signed(prebuilt()))
        assert board.trt.given == []

    def test_beside_it_others_run(self, board: Board, signed: Callable[..., Path]) -> None:
        with open_bundle(signed(prebuilt(), TFLITE)) as session:
            assert session.choice.variant == "tflite-int8"
            (rejected,) = session.choice.rejected
        assert "no key that is trusted here signed the bundle" in rejected.reason

    def test_where_nothing_checks_signatures_others_run(
        self, board: Board, signed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = signed(prebuilt(), TFLITE)
        monkeypatch.setitem(sys.modules, "cryptography", None)
        with open_bundle(path) as session:
            assert "signatures need the package cryptography" in session.choice.rejected[0].reason
        assert board.trt.given == []

    @pytest.mark.parametrize("usual", [True, False], ids=["the usual folder", "a folder that the caller names"])
    def test_trusted(self, board: Board, signed: Callable[..., Path], tmp_path: Path, *, usual: bool) -> None:
        path, keys = signed(prebuilt(), TFLITE), tmp_path / "keys"
        if usual:
            (tmp_path / "etc").mkdir()
            keys.rename(tmp_path / "etc/trust")
        with open_bundle(path, trust=None if usual else keys) as session:
            choice = session.choice
            np.testing.assert_allclose(session.run({"image": IMAGES})["scores"], expected(IMAGES), atol=1e-6)
        assert (choice.variant, choice.engine, choice.package) == ("tensorrt-fp16", "tensorrt", "tensorrt")
        assert choice.accelerator == "cuda (Fake Orin, SM87)"
        assert (board.builder.builds, board.trt.given, board.trt.host_code) == (0, [plan()], [False])
        assert board.left() == set()


class TestFit:
    def opened(self, path: Path, tmp_path: Path) -> str:
        with open_bundle(path, trust=tmp_path / "keys") as session:
            return f"{session.choice.engine} {session.choice.engine_version}"

    def test_an_engine_of_tensorrt_rtx(self, rtx: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        assert self.opened(signed(prebuilt("tensorrt-rtx")), tmp_path) == "tensorrt-rtx 1.7.1.116"
        assert (rtx.trt.given, rtx.left()) == ([plan()], set())

    def test_tensorrt_rtx_is_not_installed(self, board: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"engine 'tensorrt-rtx' is not installed: .*pip install tensorrt-rtx"):
            self.opened(signed(prebuilt("tensorrt-rtx")), tmp_path)

    def test_tensorrt_rtx_is_older(self, rtx: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"tensorrt-rtx 1\.7\.1\.116 is older than 1\.8"):
            self.opened(signed(prebuilt("tensorrt-rtx", least="1.8")), tmp_path)
        assert rtx.trt.given == []

    def test_another_gpu(self, board: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        other = prebuilt(recipe=Recipe(compute_capabilities=("SM89", "SM120")))
        with pytest.raises(EngineError, match="the plan was built for SM89, SM120, this GPU is SM87: build anew"):
            self.opened(signed(other), tmp_path)
        assert (board.trt.given, board.left()) == ([], set())

    def test_no_gpu(self, rtx: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        rtx.devices = 0
        with pytest.raises(EngineError, match=r"cudaErrorNoDevice \(100\)"):
            self.opened(signed(prebuilt("tensorrt-rtx")), tmp_path)
        assert rtx.trt.given == []  # without a driver, TensorRT's lean runtime crashes

    def test_an_engine_that_this_tensorrt_does_not_take(
        self, board: Board, signed: Callable[..., Path], tmp_path: Path
    ) -> None:
        bad = Part("tensorrt", "fp16", b"of another version", "tensorrt", recipe=HERE)
        with pytest.raises(EngineError, match=r"TensorRT 10.3.0 does not take the plan: .*build it with this version"):
            self.opened(signed(bad), tmp_path)
        assert board.left() == set()

    def test_host_code_is_not_run(self, board: Board, signed: Callable[..., Path], tmp_path: Path) -> None:
        self.opened(signed(prebuilt(recipe=Recipe(version_compatible=True))), tmp_path)
        assert board.trt.host_code == [False]


def test_the_engine_of_plans_is_looked_for_by_its_own_package(rtx: Board) -> None:
    status = engine_tensorrt_rtx.find()
    assert (status.name, status.package, status.least_version_applies) == ("tensorrt-rtx", "tensorrt-rtx", True)
    assert engine_tensorrt.find().package == "tensorrt"
