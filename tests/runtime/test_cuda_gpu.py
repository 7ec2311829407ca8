"""CUDA for real, through cuda-python: memory, a stream, events and pinned copies. Run it with -m gpu."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.runtime.cuda import CudaApi, open_cuda
from edgekit.runtime.cuda_memory import Buffer

pytestmark = pytest.mark.gpu

SIZE = 1 << 20


@pytest.fixture(scope="module")
def cuda() -> Iterator[CudaApi]:
    try:
        opened = open_cuda()
    except EngineError as problem:
        pytest.skip(f"needs an NVIDIA GPU, its driver and cuda-python: {problem}")
    opened.enter()
    yield opened
    opened.close()


def test_the_gpu_tells_what_it_is(cuda: CudaApi) -> None:
    assert cuda.device_count() >= 1
    assert cuda.device_name()
    major, minor = cuda.compute_capability()
    assert major >= 5
    assert minor >= 0
    assert cuda.driver_version() >= cuda.runtime_version() // 1000 * 1000 >= 11000


def test_bytes_come_back_through_pinned_memory(cuda: CudaApi) -> None:
    stream = cuda.create_stream()
    source, target = Buffer(cuda), Buffer(cuda)
    try:
        source.reserve(SIZE)
        target.reserve(SIZE)
        given = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
        source.view((SIZE,), "uint8")[...] = given
        cuda.copy_to_device(source.device, source.pinned, SIZE, stream)
        cuda.copy_to_host(target.pinned, source.device, SIZE, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(target.view((SIZE,), "uint8"), given)
    finally:
        source.close()
        target.close()
        cuda.destroy_stream(stream)


def test_events_take_the_time_of_a_copy(cuda: CudaApi) -> None:
    stream, start, end = cuda.create_stream(), cuda.create_event(), cuda.create_event()
    buffer = Buffer(cuda)
    try:
        buffer.reserve(SIZE)
        cuda.record(start, stream)
        cuda.copy_to_device(buffer.device, buffer.pinned, SIZE, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        assert cuda.elapsed_ms(start, end) > 0
    finally:
        buffer.close()
        cuda.destroy_event(start)
        cuda.destroy_event(end)
        cuda.destroy_stream(stream)


def test_a_captured_copy_is_run_by_its_graph(cuda: CudaApi) -> None:
    stream, buffer, target = cuda.create_stream(), Buffer(cuda), Buffer(cuda)
    try:
        buffer.reserve(4)
        target.reserve(4)
        cuda.begin_capture(stream)
        cuda.copy_to_device(buffer.device, buffer.pinned, 4, stream)
        cuda.copy_to_host(target.pinned, buffer.device, 4, stream)
        graph = cuda.end_capture(stream)
        executable = cuda.instantiate(graph)
        cuda.destroy_graph(graph)
        for value in (1, 2, 3):
            ctypes.c_int.from_address(buffer.pinned).value = value
            cuda.launch(executable, stream)
            cuda.synchronize(stream)
            assert ctypes.c_int.from_address(target.pinned).value == value
        cuda.destroy_executable(executable)
    finally:
        buffer.close()
        target.close()
        cuda.destroy_stream(stream)


def test_more_memory_than_there_is_names_the_error(cuda: CudaApi) -> None:
    with pytest.raises(
        EngineError, match=r"cudaErrorMemoryAllocation \(2\) when taking memory of the GPU: close other"
    ):
        cuda.allocate(1 << 50)
