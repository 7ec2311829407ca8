"""The bindings to CUDA: which is taken, and how their errors are told. Real calls are in test_cuda_gpu.py."""

from __future__ import annotations

import enum
import inspect
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.runtime import cuda
from edgekit.runtime.cuda import CudaApi, open_cuda
from edgekit.runtime.cuda_pycuda import CudaPycuda
from edgekit.runtime.cuda_python import CudaPython
from tests.runtime.recording_cuda import RecordingCuda


class Status(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815  # as CUDA calls them
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815


@pytest.mark.parametrize("binding", [CudaPython, CudaPycuda, RecordingCuda])
def test_every_binding_has_the_protocols_methods(binding: type[Any]) -> None:
    for name, method in inspect.getmembers(CudaApi, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = inspect.signature(getattr(binding, name))
        assert list(ours.parameters) == list(inspect.signature(method).parameters), name


class TestChoosing:
    @pytest.fixture
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> set[str]:
        there: set[str] = set()
        monkeypatch.setattr(cuda, "find_spec", lambda name: object() if name in there else None)
        return there

    def test_none_is_installed(self, installed: set[str]) -> None:
        with pytest.raises(EngineError, match=r'no CUDA binding for Python is installed: pip install "cuda-python'):
            open_cuda()

    def test_a_cuda_folder_that_is_no_cuda_python(self, installed: set[str]) -> None:
        installed.add("cuda")
        with pytest.raises(EngineError, match=r"no CUDA binding"):
            open_cuda()

    @pytest.mark.parametrize(
        ("packages", "home"),
        [
            ({"cuda", "cuda.bindings", "pycuda"}, "edgekit.runtime.cuda_python"),
            ({"pycuda"}, "edgekit.runtime.cuda_pycuda"),
        ],
    )
    def test_cuda_python_comes_first(
        self, installed: set[str], monkeypatch: pytest.MonkeyPatch, packages: set[str], home: str
    ) -> None:
        installed |= packages
        fake = RecordingCuda()
        monkeypatch.setattr(f"{home}.open_cuda", lambda: fake)
        assert open_cuda() is fake
        assert fake.closed == 0

    def test_no_gpu_is_visible(self, installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
        installed.update({"cuda", "cuda.bindings"})
        fake = RecordingCuda(devices=0)
        monkeypatch.setattr("edgekit.runtime.cuda_python.open_cuda", lambda: fake)
        with pytest.raises(EngineError, match=r"cudaErrorNoDevice \(100\) when looking for a GPU: no GPU is visible"):
            open_cuda()
        assert fake.closed == 1

    @pytest.mark.parametrize(
        ("module", "home"), [("cuda.bindings", "cuda_python"), ("pycuda.driver", "cuda_pycuda")]
    )  # fmt: skip
    def test_a_library_that_does_not_load(self, monkeypatch: pytest.MonkeyPatch, module: str, home: str) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EngineError, match=r"(cuda-python|pycuda) cannot be loaded: "):
            sys.modules[f"edgekit.runtime.{home}"].open_cuda()


class TestCudaPython:
    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (Status.cudaErrorInsufficientDriver, r"cudaErrorInsufficientDriver \(35\) .*: update the driver"),
            (Status.cudaErrorMemoryAllocation, r"cudaErrorMemoryAllocation \(2\) when taking memory .*: close other"),
            (Status.cudaErrorLaunchFailure, r"cudaErrorLaunchFailure \(719\) when taking memory of the GPU$"),
        ],
    )
    def test_an_error_of_the_driver_is_named(self, status: Status, message: str) -> None:
        failing = SimpleNamespace(cudaMalloc=lambda size: (status, None))
        with pytest.raises(EngineError, match=message):
            CudaPython(failing).allocate(16)

    def test_what_it_calls(self) -> None:
        called: list[tuple[object, ...]] = []

        def answer(name: str, *results: object) -> Any:
            def call(*arguments: object) -> tuple[object, ...]:
                called.append((name, *arguments))
                return (Status.cudaSuccess, *results)

            return call

        runtime = SimpleNamespace(
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down"),
            cudaDeviceAttr=SimpleNamespace(
                cudaDevAttrComputeCapabilityMajor=8, cudaDevAttrComputeCapabilityMinor=7
            ),
            cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal="local"),
            cudaMemcpyAsync=answer("copy"),
            cudaDeviceGetAttribute=lambda kind, device: (Status.cudaSuccess, kind),
            cudaGetDeviceProperties=answer("facts", SimpleNamespace(name=b"Orin\0\0")),
            cudaStreamBeginCapture=answer("begin"),
            cudaEventElapsedTime=answer("elapsed", 1.5),
        )  # fmt: skip
        api = CudaPython(runtime)
        api.copy_to_device(1, 2, 3, 4)
        api.copy_to_host(2, 1, 3, 4)
        api.begin_capture(4)
        assert called == [("copy", 1, 2, 3, "up", 4), ("copy", 2, 1, 3, "down", 4), ("begin", 4, "local")]
        assert (api.device_name(), api.compute_capability(), api.elapsed_ms(5, 6)) == ("Orin", (8, 7), 1.5)


class FakeDriver(ModuleType):
    """As much of pycuda.driver as a run needs."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.pushed: list[int] = []
        self.freed: list[str] = []
        self.Context = SimpleNamespace(pop=lambda: self.pushed.pop(), synchronize=lambda: self.freed.append("all"))
        self.Event = lambda: SimpleNamespace(record=lambda stream: None, time_till=lambda end: 0.25)
        self.full = False

    def init(self) -> None:
        pass

    def Device(self, index: int) -> Any:  # noqa: N802  # as pycuda calls it
        context = SimpleNamespace(
            push=lambda: self.pushed.append(threading.get_ident()), detach=lambda: self.freed.append("context")
        )
        return SimpleNamespace(
            name=lambda: "Orin", compute_capability=lambda: (8, 7), retain_primary_context=lambda: context
        )

    def mem_alloc(self, size: int) -> Any:
        if self.full:
            raise self.Error("cuMemAlloc failed: out of memory")

        class Allocation:
            def __int__(self) -> int:
                return 4096

            def free(allocation) -> None:  # noqa: N805  # the driver is self
                self.freed.append("device")

        return Allocation()

    def pagelocked_empty(self, size: int, dtype: str) -> Any:
        array = np.zeros(size, dtype)
        return SimpleNamespace(
            ctypes=array.ctypes, base=SimpleNamespace(free=lambda: self.freed.append("pinned")), __len__=None
        )

    def Stream(self) -> Any:  # noqa: N802
        return SimpleNamespace(handle=77, synchronize=lambda: self.freed.append("stream"))

    def get_version(self) -> tuple[int, int, int]:
        return (12, 6, 0)

    def get_driver_version(self) -> int:
        return 12080


class TestPycuda:
    def test_the_primary_context_is_entered_once_in_each_thread(self) -> None:
        driver = FakeDriver()
        api = CudaPycuda(driver)
        for _ in range(2):
            api.enter()
        thread = threading.Thread(target=api.enter)
        thread.start()
        thread.join()
        assert len(driver.pushed) == 2
        api.close()
        api.close()
        assert driver.freed == ["context"]

    def test_memory_streams_and_events(self) -> None:
        driver = FakeDriver()
        api = CudaPycuda(driver)
        device, pinned, stream, event = (
            api.allocate(16),
            api.allocate_pinned(16),
            api.create_stream(),
            api.create_event(),
        )
        api.record(event, stream)
        assert (device, stream, api.elapsed_ms(event, event)) == (4096, 77, 0.25)
        api.synchronize(stream)
        api.synchronize(5)  # of another library
        api.free(device)
        api.free_pinned(pinned)
        assert driver.freed == ["stream", "all", "device", "pinned"]
        assert (api.runtime_version(), api.driver_version()) == (12060, 12080)

    def test_an_error_of_the_driver_is_told(self) -> None:
        driver = FakeDriver()
        driver.full = True
        with pytest.raises(EngineError, match=r"cuMemAlloc failed: out of memory when taking memory of the GPU"):
            CudaPycuda(driver).allocate(16)

    def test_a_pycuda_without_graphs(self) -> None:
        api = CudaPycuda(FakeDriver())
        with pytest.raises(EngineError, match=r"this pycuda has no CUDA graphs"):
            api.begin_capture(api.create_stream())
