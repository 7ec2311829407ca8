"""Arrays that are in the GPU's memory: what is believed of `__cuda_array_interface__`, and who takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.runtime import open_bundle
from edgekit.runtime.cuda_memory import device_array, on_device


class There:
    """As cupy and torch show theirs."""

    def __init__(self, shape: tuple[int, ...], typestr: str = "<f4", **more: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (4096, False),
            "version": 3,
            **more,
        }


def test_what_is_read() -> None:
    array = There((8, 4), stream=1, strides=(16, 4))
    assert on_device(array)
    assert not on_device(np.zeros(3))
    seen = device_array("image", array)
    assert (seen.pointer, seen.shape, seen.dtype, seen.stream, len(seen)) == (4096, (8, 4), np.float32, 1, 8)
    assert seen.owner is array
    part = seen[2:5]
    assert (part.pointer, part.shape) == (4096 + 2 * 16, (3, 4))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"strides": (4, 32)}, r"'image' is not contiguous on the GPU \(strides \(4, 32\)\); make a contiguous copy"),
        ({"mask": There((8, 4))}, r"'image' is a masked array on the GPU"),
    ],
)
def test_what_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        device_array("image", There((8, 4), **more))


@pytest.mark.parametrize("variant", ["tflite-fp32", "onnx-fp32"])
def test_engines_of_the_cpu_do_not_take_them(tiny_bundle: Path, variant: str) -> None:
    with open_bundle(tiny_bundle, variant=variant) as session:
        message = rf"'image' is in a GPU's memory, {session.choice.engine} takes numpy's"
        with pytest.raises(DataError, match=message):
            session.run({"image": There((8, 4))})  # type: ignore[dict-item]
        assert session.stages() is None
