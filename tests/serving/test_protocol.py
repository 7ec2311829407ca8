from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.errors import DataError
from edgekit.serving.protocol import Request, datatype_of, read_request, write_response

DTYPES = [
    "bool", "uint8", "int8", "int16", "uint16", "int32",
    "uint32", "int64", "uint64", "float16", "float32", "float64",
]  # fmt: skip
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0)))


def read(head: Any, content: bytes = b"") -> tuple[Request, dict[str, np.ndarray]]:
    words = json.dumps(head).encode()
    return read_request(memoryview(words + content), str(len(words)) if content else None)


def item(**changes: Any) -> dict[str, Any]:
    given = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2.5], **changes}
    return {key: value for key, value in given.items() if value is not None}


@given(ARRAYS, st.booleans())
def test_every_array_comes_back(array: np.ndarray, binary: bool) -> None:
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, posinf=1, neginf=-1)
    described = {"name": "x", "shape": list(array.shape), "datatype": datatype_of(array.dtype)}
    if binary:
        content = array.tobytes()
        request, found = read({"inputs": [{**described, "parameters": {"binary_data_size": len(content)}}]}, content)
    else:
        request, found = read({"inputs": [{**described, "data": array.tolist()}]})
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].dtype == array.dtype
    body, _ = write_response(request, found, model="m", version="1")
    assert json.loads(body)["outputs"] == [{**described, "data": array.ravel().tolist()}]


@pytest.mark.parametrize("data", [[0, 2**63], [2**64 - 1, 1]])
def test_integers_beyond_int64(data: list[int]) -> None:
    _, found = read({"inputs": [item(datatype="UINT64", data=data)]})
    assert found["x"].tolist() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [([0, 2**64], "beyond UINT64"), ([-1, 2**63], "beyond UINT64"), ([0.5, 2**63], "not of UINT64")],
)
def test_what_uint64_does_not_hold(data: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read({"inputs": [item(datatype="UINT64", data=data)]})


def test_data_may_be_nested() -> None:
    _, found = read({"inputs": [item(shape=[2, 1], data=[[1], [2]])]})
    assert found["x"].tolist() == [[1.0], [2.0]]


def test_outputs_of_both_kinds() -> None:
    request, _ = read({"inputs": [], "outputs": [{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}]})
    outputs = {"a": np.array([1, 2], np.int32), "b": np.array([3], np.uint8)}
    body, headers = write_response(request, outputs, model="m", version="1")
    length = int(headers["Inference-Header-Content-Length"])
    assert body[length:] == b"\3"
    assert json.loads(body[:length])["outputs"] == [
        {"name": "b", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
        {"name": "a", "datatype": "INT32", "shape": [2], "data": [1, 2]},
    ]


@pytest.mark.parametrize(
    ("head", "content", "message"),
    [
        ([], b"", "request: the top level is [], expected a table"),
        ({"inputs": [item(nam="y")]}, b"", "unknown key 'nam' in [inputs[0]]; did you mean 'name'?"),
        ({"inputs": [item(), item()]}, b"", "input 'x' is given twice"),
        ({"inputs": [item(datatype="FP33")]}, b"", "input 'x' has datatype 'FP33'; did you mean 'FP32'?"),
        ({"inputs": [item(datatype="BYTES")]}, b"", "input 'x' has datatype 'BYTES'"),
        ({"inputs": [item(shape=[3])]}, b"", "input 'x' has 2 numbers, its shape (3,) takes 3"),
        ({"inputs": [item(shape=[-2])]}, b"", "has shape (-2,), expected sizes from 0 on"),
        ({"inputs": [item(shape=[2.0])]}, b"", "expected a whole number"),
        ({"inputs": [item(data=None)]}, b"", "input 'x' has no data"),
        ({"inputs": [item(data=["1", "2"])]}, b"", "its data is not of FP32"),
        ({"inputs": [item(data=[True, False])]}, b"", "its data is not of FP32"),
        ({"inputs": [item(data=[1, [2]])]}, b"", "input 'x': its data is no array"),
        ({"inputs": [item(data=[10**30, 1])]}, b"", "its data is not of FP32"),
        ({"inputs": [item(datatype="INT8", data=[1.5, 2])]}, b"", "its data is not of INT8"),
        ({"inputs": [item(datatype="INT8", data=[128, 2])]}, b"", "its data is beyond INT8"),
        ({"inputs": [item(datatype="UINT8", data=[-1, 2])]}, b"", "its data is beyond UINT8"),
        ({"inputs": [item(parameters={"binary_data_size": 8})]}, b"12345678", "both data and binary_data_size"),
        ({"inputs": [item(data=None, parameters={"binary_data_size": 8})]}, b"1234", "the body has 4 bytes for it"),
        ({"inputs": [item(data=None, parameters={"binary_data_size": -1})]}, b"1234", "binary_data_size is -1"),
        ({"inputs": [item(data=None, parameters={"binary_data_size": True})]}, b"1234", "binary_data_size is True"),
        ({"inputs": [item(data=None, parameters={"binary_data_size": 4})]}, b"1234", "FP32 (2,) takes 8"),
        ({"inputs": [item()]}, b"1234", "4 bytes follow the last binary tensor"),
    ],
)
def test_a_mistake_is_one_line(head: Any, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(head, content)
    assert message in str(caught.value)


@pytest.mark.parametrize("length", ["-1", "x", "3", "", "²"])
def test_a_wrong_length_of_the_json(length: str) -> None:
    with pytest.raises(DataError, match="Inference-Header-Content-Length is"):
        read_request(memoryview(b"{}"), length)


def test_binary_numbers_are_aligned() -> None:
    for pad in range(4):
        size = {"binary_data_size": 8}
        _, found = read({"id": "x" * pad, "inputs": [item(data=None, parameters=size)]}, b"\0" * 8)
        assert found["x"].flags.aligned
