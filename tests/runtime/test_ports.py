from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import DataError, EngineError
from edgekit.manifest import Binding
from edgekit.runtime.ports import InputPort, Ports, input_port, output_port
from edgekit.tensors import Quantization, TensorSpec

SPEC = TensorSpec("x", (None, 3), "float32")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("quantization", [Quantization(0.003921569, -128), Quantization(0.5, 7), Quantization(3e-5, 0)])
def test_quantization_is_that_of_the_contract(dtype: str, quantization: Quantization) -> None:
    port = input_port(SPEC, Binding("x", "x", dtype, quantization), (1, 3), raw=False)
    ties = (np.arange(-300, 300, dtype=np.float32) + 0.5) * np.float32(quantization.scale)
    values = np.concatenate([ties, np.random.default_rng(0).normal(0, 100, 600).astype(np.float32), [np.inf, -np.inf]])
    values = values.astype(np.float32)[: values.size // 3 * 3].reshape(-1, 3)
    assert port.convert is not None
    np.testing.assert_array_equal(port.convert(values), quantization.quantize(values, dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_dequantization_is_that_of_the_contract(dtype: str) -> None:
    quantization = Quantization(0.0123, 5)
    port = output_port(SPEC, Binding("x", "x", dtype, quantization), raw=False)
    limits = np.iinfo(dtype)
    stored = np.linspace(limits.min, limits.max, 300).astype(dtype).reshape(-1, 3)
    assert port.convert is not None
    real = port.convert(stored)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, quantization.dequantize(stored))


def test_equal_dtypes_need_no_conversion() -> None:
    binding = Binding("x", "x", "float32")
    assert input_port(SPEC, binding, (1, 3), raw=False).convert is None
    assert output_port(SPEC, binding, raw=False).convert is None


def test_float16_files_take_and_give_float32() -> None:
    binding = Binding("x", "x", "float16")
    into, out = input_port(SPEC, binding, (1, 3), raw=False), output_port(SPEC, binding, raw=False)
    assert into.convert is not None
    assert out.convert is not None
    assert into.convert(np.ones((1, 3), np.float32)).dtype == np.float16
    assert out.convert(np.ones((1, 3), np.float16)).dtype == np.float32


def test_integers_that_do_not_fit_are_refused() -> None:
    spec = TensorSpec("token", (None, 1), "int64")
    convert = input_port(spec, Binding("token", "t", "int32"), (1, 1), raw=False).convert
    assert convert is not None
    assert convert(np.array([[7]])).dtype == np.int32
    with pytest.raises(DataError, match=r"'token' holds values that int32 cannot represent"):
        convert(np.array([[1 << 40]]))


def test_another_rank_in_the_file() -> None:
    with pytest.raises(EngineError, match=r"has 2 dimensions, tensor 't' has 3"):
        input_port(SPEC, Binding("x", "t", "float32"), (1, 3, 1), raw=False)


def port(name: str, shape: tuple[int | None, ...], engine_shape: tuple[int | None, ...]) -> InputPort:
    return input_port(TensorSpec(name, shape, "float32"), Binding(name, name, "float32"), engine_shape, raw=False)


class TestBatches:
    def zeros(self, *counts: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((count, 2), np.float32) for name, count in zip("ab", counts, strict=False)}

    def test_inputs_with_different_counts(self) -> None:
        ports = Ports([port("a", (None, 2), (1, 2)), port("b", (None, 2), (1, 2))], [])
        with pytest.raises(DataError, match=r"one number of samples for all inputs, at least 1; got 'a' 2, 'b' 3"):
            ports.batches(self.zeros(2, 3), "model")

    def test_an_input_without_batch_goes_along_whole(self) -> None:
        ports = Ports([port("a", (None, 2), (1, 2)), port("b", (3, 2), (3, 2))], [])
        pieces = ports.batches(self.zeros(2, 3), "model")
        assert [[array.shape for array in piece] for piece in pieces] == [[(1, 2), (3, 2)]] * 2

    def test_a_dynamic_engine_takes_all_at_once(self) -> None:
        ports = Ports([port("a", (None, 2), (None, 2))], [])
        assert len(ports.batches(self.zeros(5), "model")) == 1

    def test_a_file_made_for_four(self) -> None:
        ports = Ports([port("a", (None, 2), (4, 2))], [])
        assert len(ports.batches(self.zeros(8), "model")) == 2
        with pytest.raises(DataError, match=r"6 samples given, this variant takes a multiple of 4"):
            ports.batches(self.zeros(6), "model")

    def test_outputs_without_batch_do_not_join(self) -> None:
        output = output_port(TensorSpec("y", (2,), "float32"), Binding("y", "y", "float32"), raw=False)
        piece = {"y": np.zeros(2, np.float32)}
        assert Ports([], [output]).join([piece], "model") == piece
        with pytest.raises(DataError, match=r"output 'y' \(2,\) float32 has no batch dimension"):
            Ports([], [output]).join([piece, piece], "model")
