"""What was asked for runs, or is an error; what runs elsewhere is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.runtime import engine_onnx, open_bundle
from edgekit.runtime.delegation import read_delegation
from tests.tiny_models import IMAGES, Part, expected, float_onnx, float_tflite, pack

PLAIN, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"op_name": name, "inputs": np.array(inputs, np.int32), "outputs": np.array(outputs, np.int32)}


class TestDelegation:
    def test_what_lies_between_a_parts_borders_is_taken(self) -> None:
        """As ai-edge-litert lists an LSTM: a left-out bias is -1, and the loop has no last output."""
        found = read_delegation(
            [
                node("CALL_ONCE", [], []),
                node("WHILE", [0, 4], [5, -1]),
                node("STRIDED_SLICE", [5, 3], [16]),
                node("FULLY_CONNECTED", [16, 6, -1], [17]),
                node("RELU", [17], [18]),
                node("DELEGATE", [6, 16], [18]),
            ]
        )
        assert (found.operators, found.delegates, found.left) == (4, 1, ("WHILE", "STRIDED_SLICE"))

    def test_no_delegate(self) -> None:
        found = read_delegation([node("RELU", [0], [1])])
        assert (found.delegates, found.left) == (0, ("RELU",))


class TestLiteRT:
    def opened(self, tmp_path: Path, accelerator: str | None) -> Any:
        path = pack(tmp_path, (Part("tflite", "fp32", float_tflite(), "litert"),))
        with open_bundle(path, accelerator=accelerator) as session:
            np.testing.assert_allclose(session.run({"image": IMAGES})["scores"], expected(IMAGES), atol=1e-6)
            return session.choice

    @pytest.mark.parametrize(("asked", "ran"), [(None, "cpu (XNNPACK)"), ("xnnpack", "cpu (XNNPACK)"), ("cpu", "cpu")])
    def test_with_and_without_xnnpack(self, tmp_path: Path, asked: str | None, ran: str) -> None:
        choice = self.opened(tmp_path, asked)
        assert (choice.accelerator, choice.notes) == (ran, ())

    def test_what_it_has_none_of(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="accelerator 'cuda' was asked for, LiteRT knows cpu, xnnpack and the"):
            self.opened(tmp_path, "cuda")

    def test_a_delegate_that_cannot_be_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"the delegate \S+none\.so cannot be loaded: no such file"):
            self.opened(tmp_path, str(tmp_path / "none.so"))

    def test_xnnpack_that_takes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from ai_edge_litert.interpreter import Interpreter

        monkeypatch.setattr(Interpreter, "_get_ops_details", lambda _: [node("CUSTOM", [0], [1])])
        assert self.opened(tmp_path, None).accelerator == "cpu"
        with pytest.raises(EngineError, match="accelerator 'xnnpack' was asked for and took no operator of the model"):
            self.opened(tmp_path, "xnnpack")

    def test_what_it_leaves_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from ai_edge_litert.interpreter import Interpreter

        nodes = [node("CUSTOM", [0], [1]), node("RELU", [1], [2]), node("DELEGATE", [1], [2])]
        monkeypatch.setattr(Interpreter, "_get_ops_details", lambda _: nodes)
        assert self.opened(tmp_path, None).notes == ("1 of 2 operators are not run by XNNPACK: CUSTOM x 1",)


class Provided:
    """ONNX Runtime with CUDA in its package: `taken` are the providers that sessions then have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, taken: list[str], *, whole: bool = True) -> None:
        import onnxruntime

        self._real = onnxruntime.InferenceSession
        self._taken, self._whole = taken, whole
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, PLAIN])
        monkeypatch.setattr(onnxruntime, "InferenceSession", self._session)

    def _session(self, content: bytes, options: Any, *, providers: list[str]) -> Any:
        try:
            strict = options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        except RuntimeError:
            strict = False
        if strict and not self._whole:
            raise RuntimeError("This session contains graph nodes that are assigned to the default CPU EP")
        import onnxruntime

        plain = onnxruntime.SessionOptions()
        made = self._real(content, plain, providers=[PLAIN])
        made.get_providers = lambda: self._taken if CUDA in providers else [PLAIN]
        return made


class TestOnnxRuntime:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime"),))

    def test_one_that_is_not_in_the_package(self, path: Path) -> None:
        with pytest.raises(EngineError, match="accelerator 'cuda' was asked for, this onnxruntime has cpu"):
            open_bundle(path, accelerator="cuda")

    def test_the_whole_model_on_cuda(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Provided(monkeypatch, [CUDA, PLAIN])
        with open_bundle(path, accelerator="cuda") as session:
            assert (session.choice.accelerator, session.choice.notes) == (f"cuda ({CUDA})", ())

    def test_a_part_of_it(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Provided(monkeypatch, [CUDA, PLAIN], whole=False)
        with open_bundle(path) as session:
            (note,) = session.choice.notes
        assert note.startswith(f"{CUDA} does not run the whole model, the rest runs on the CPU: This session contains")

    def test_cuda_that_does_not_take(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Provided(monkeypatch, [PLAIN])
        with open_bundle(path) as session:
            assert session.choice.accelerator == f"cpu ({PLAIN})"
            (note,) = session.choice.notes
        assert note.startswith(f"{CUDA} is part of the package and did not take")
        with pytest.raises(EngineError, match=rf"accelerator 'cuda' was asked for; {CUDA} is part of the package"):
            open_bundle(path, accelerator="cuda")

    def test_the_cpu_where_cuda_is(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Provided(monkeypatch, [CUDA, PLAIN])
        with open_bundle(path, accelerator="cpu") as session:
            assert (session.choice.accelerator, session.choice.notes) == (f"cpu ({PLAIN})", ())
        assert engine_onnx.find().version is not None
