"""Between the caller's arrays and the engine's: names, shapes, dtypes and quantization, prepared once at open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import DataError, EngineError, did_you_mean
from edgekit.manifest import Binding
from edgekit.runtime.cuda_memory import DeviceArray
from edgekit.tensors import Array, Quantization, TensorSpec

Convert = Callable[[Array], Array]
Fill = Callable[[Array, Array], None]  # what the engine gave, and where it is to be in the caller's dtype


@dataclass(frozen=True)
class InputPort:
    """One input: what the caller gives and how it becomes what the engine takes."""

    spec: TensorSpec  # as the caller sees it
    name: str
    dtype: np.dtype[np.generic]
    engine_shape: tuple[int | None, ...]
    common_shape: tuple[int | None, ...]  # the engine's shape for one sample; it needs no further check
    convert: Convert | None

    @property
    def batched(self) -> bool:
        """True when the first dimension counts samples."""
        return bool(self.spec.shape) and self.spec.shape[0] is None


@dataclass(frozen=True)
class OutputPort:
    """One output and how what the engine gives becomes what the caller gets."""

    spec: TensorSpec
    name: str
    convert: Convert | None
    fill: Fill


class Ports:
    """All inputs and outputs of a session, for one way to call it (float or raw)."""

    def __init__(self, inputs: Sequence[InputPort], outputs: Sequence[OutputPort]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._takes = [(port.name, port.dtype, port.common_shape, port.convert) for port in inputs]
        self._gives = [(port.name, port.convert) for port in outputs]
        self._known_out: dict[str, Array] = {}  # found right the last time
        self.as_given = all(convert is None for _, convert in self._gives)  # outputs go to the caller unchanged

    def take_common(self, inputs: Mapping[str, Array]) -> list[Array] | None:
        """The engine's arrays when `inputs` is one plain sample for each port, else None."""
        if len(inputs) != len(self._takes):
            return None
        arrays = []
        for name, dtype, shape, convert in self._takes:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return None
            arrays.append(array if convert is None else convert(array))
        return arrays

    def give(self, results: Sequence[Array]) -> dict[str, Array]:
        """The caller's arrays by name."""
        return {
            name: result if convert is None else convert(result)
            for (name, convert), result in zip(self._gives, results)  # noqa: B905  # hot path
        }

    def fill(self, results: Sequence[Array], out: Mapping[str, Array], where: str) -> None:
        """Write what the engine gave into the caller's arrays. Raises DataError on another shape."""
        for port, result in zip(self.outputs, results, strict=True):
            target = out[port.name]
            if result.shape != target.shape:
                raise DataError(f"{where}: out '{port.name}' has shape {target.shape}, the model gives {result.shape}")
            port.fill(result, target)

    def check_out(self, out: Mapping[str, Array], where: str) -> None:
        """Raise DataError unless `out` has an array for each output to write to; the same ones again need no check."""
        known = self._known_out
        if known and len(out) == len(known) and all(out.get(name) is array for name, array in known.items()):
            return
        self._known_out = {}
        names = [port.name for port in self.outputs]
        if sorted(out) != sorted(names):
            raise DataError(f"{where}: out has {', '.join(out) or 'nothing'}, expected {', '.join(names)}")
        for port in self.outputs:
            target = out[port.name]
            if not isinstance(target, np.ndarray):
                raise DataError(f"{where}: out '{port.name}' is a {type(target).__name__}, expected a numpy array")
            port.spec.check(target, where=f"{where}: out")
            if not (target.flags.writeable and target.flags.c_contiguous):
                raise DataError(f"{where}: out '{port.name}' is read-only or has gaps, expected a plain array")
        self._known_out = dict(out)

    def check(self, inputs: Mapping[str, Array], where: str) -> None:
        """Raise DataError unless `inputs` has exactly these names, each of its shape and dtype."""
        specs = {port.name: port.spec for port in self.inputs}
        for name in inputs:
            if name not in specs:
                raise DataError(f"{where}: unknown input '{name}'{did_you_mean(name, specs)}")
        for name, spec in specs.items():
            if name not in inputs:
                raise DataError(f"{where}: missing input {spec}")
            if not isinstance(inputs[name], np.ndarray | DeviceArray):
                raise DataError(f"{where}: '{name}' is a {type(inputs[name]).__name__}, expected a numpy array {spec}")
            spec.check(inputs[name], where=where)

    def batches(self, inputs: Mapping[str, Array], where: str) -> list[list[Array]]:
        """Checked `inputs` in pieces that the engine takes, not yet converted."""
        samples = {port.name: len(inputs[port.name]) for port in self.inputs if port.batched}
        if len(set(samples.values())) > 1 or 0 in samples.values():
            counts = ", ".join(f"'{name}' {count}" for name, count in samples.items())
            raise DataError(f"{where}: expected one number of samples for all inputs, at least 1; got {counts}")
        steps = {port.engine_shape[0] for port in self.inputs if port.batched} - {None}
        if not steps:
            return [[inputs[port.name] for port in self.inputs]]
        return self._split(inputs, max(samples.values()), max(step for step in steps if step), where)

    def convert(self, arrays: Sequence[Array]) -> list[Array]:
        """One piece, converted for the engine."""
        return [
            array if port.convert is None else _converted(port, port.convert, array)
            for port, array in zip(self.inputs, arrays, strict=True)
        ]

    def join(self, pieces: Sequence[Mapping[str, Array]], where: str) -> dict[str, Array]:
        """Outputs of several pieces, one after the other along the batch."""
        for port in self.outputs:
            if len(pieces) > 1 and port.spec.shape[:1] != (None,):
                raise DataError(f"{where}: output {port.spec} has no batch dimension; run one sample at a time")
        if len(pieces) == 1:
            return dict(pieces[0])
        return {port.name: np.concatenate([piece[port.name] for piece in pieces]) for port in self.outputs}

    def joins(self, samples: Sequence[Mapping[str, Array]]) -> bool:
        """Whether checked `samples` fit into one run: the file takes any number, and their other sizes are equal."""
        open_batch = all(port.batched and port.engine_shape[0] is None for port in self.inputs)
        gives_batch = all(port.spec.shape[:1] == (None,) for port in self.outputs)
        return (
            open_batch
            and gives_batch
            and all(
                isinstance(sample[port.name], np.ndarray)
                and sample[port.name].shape[1:] == samples[0][port.name].shape[1:]
                for sample in samples
                for port in self.inputs
            )
        )

    def joined(self, samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """One after the other along the batch."""
        return {port.name: np.concatenate([sample[port.name] for sample in samples]) for port in self.inputs}

    def split(self, results: Mapping[str, Array], samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """The results of `joined`, for each of the samples."""
        counts = [len(sample[self.inputs[0].name]) for sample in samples]
        ends = np.cumsum(counts)[:-1]
        parts = {name: np.split(result, ends) for name, result in results.items()}
        return [{name: part[index] for name, part in parts.items()} for index in range(len(samples))]

    def _split(self, inputs: Mapping[str, Array], samples: int, step: int, where: str) -> list[list[Array]]:
        if samples % step:
            raise DataError(f"{where}: {samples} samples given, this variant takes a multiple of {step}")
        return [
            [inputs[port.name][start : start + step] if port.batched else inputs[port.name] for port in self.inputs]
            for start in range(0, samples, step)
        ]


def _converted(port: InputPort, convert: Convert, array: Array | DeviceArray) -> Array:
    if isinstance(array, DeviceArray):
        raise DataError(f"'{port.name}' is in the GPU's memory, this variant takes another dtype; give a numpy array")
    return convert(array)


def input_port(spec: TensorSpec, binding: Binding, shape: tuple[int | None, ...], *, raw: bool) -> InputPort:
    """The port of one input, for an engine that takes `shape`. Raises EngineError when the ranks differ."""
    if len(shape) != len(spec.shape):
        raise EngineError(f"input {spec} has {len(spec.shape)} dimensions, tensor '{binding.tensor}' has {len(shape)}")
    seen = TensorSpec(spec.name, spec.shape, binding.dtype if raw else spec.dtype)
    one = tuple(1 if axis == 0 and spec.shape[0] is None and size is None else size for axis, size in enumerate(shape))
    return InputPort(seen, spec.name, np.dtype(seen.dtype), shape, one, _input_convert(seen, binding, raw))


def output_port(spec: TensorSpec, binding: Binding, *, raw: bool) -> OutputPort:
    """The port of one output."""
    if raw:
        return OutputPort(TensorSpec(spec.name, spec.shape, binding.dtype), spec.name, None, _copy)
    dtype = np.dtype(spec.dtype)
    if binding.quantization is not None:
        convert = _dequantizer(binding.quantization, dtype)
        into = _dequantizer_into(binding.quantization) if spec.dtype == "float32" else _converted_into(convert)
        return OutputPort(spec, spec.name, convert, into)
    if spec.dtype == binding.dtype:
        return OutputPort(spec, spec.name, None, _copy)
    return OutputPort(spec, spec.name, lambda array: array.astype(dtype), _cast)


def _input_convert(seen: TensorSpec, binding: Binding, raw: bool) -> Convert | None:
    if raw:
        return None
    if binding.quantization is not None:
        return _Quantizer(seen.name, binding.quantization, binding.dtype)
    if seen.dtype == binding.dtype:
        return None
    return _caster(seen.name, np.dtype(seen.dtype), np.dtype(binding.dtype))


class _Quantizer:
    """`Quantization.quantize` with its arrays kept between calls; NaN is refused, since no integer stands for it."""

    def __init__(self, name: str, quantization: Quantization, dtype: str) -> None:
        limits = np.iinfo(dtype)
        self._name = name
        self._stored_dtype = dtype
        # Arrays of no dimension: ufuncs take them faster than numpy scalars.
        self._inverse = np.asarray(1.0 / quantization.scale, np.float32)
        self._zero_point = np.asarray(quantization.zero_point, np.float32)
        self._least, self._most = np.asarray(limits.min, np.float32), np.asarray(limits.max, np.float32)
        self._real: Array = np.empty(0, np.float32)
        self._flat: Array = self._real
        self._stored: Array = np.empty(0, dtype)

    def __call__(self, array: Array) -> Array:
        if array.shape != self._real.shape:
            self._real = np.empty(array.shape, np.float32)
            self._flat = self._real.reshape(-1)
            self._stored = np.empty(array.shape, self._stored_dtype)
        real = self._real
        np.multiply(array, self._inverse, out=real)
        np.rint(real, out=real)
        np.add(real, self._zero_point, out=real)
        np.maximum(real, self._least, out=real)
        np.minimum(real, self._most, out=real)
        largest = np.maximum.reduce(self._flat)
        if largest != largest:  # NaN alone differs from itself
            raise DataError(
                f"'{self._name}' holds NaN, which {self._stored_dtype} cannot stand for; choose a float variant"
            )
        np.copyto(self._stored, real, casting="unsafe")
        return self._stored


def _dequantizer(quantization: Quantization, dtype: np.dtype[np.generic]) -> Convert:
    scale = np.asarray(quantization.scale, np.float32)
    zero_point = np.asarray(quantization.zero_point, np.float32)

    def dequantize(stored: Array) -> Array:
        real: Array = np.subtract(stored, zero_point, dtype=np.float32)
        np.multiply(real, scale, out=real)
        return real if real.dtype is dtype else real.astype(dtype)

    return dequantize


def _dequantizer_into(quantization: Quantization) -> Fill:
    scale = np.asarray(quantization.scale, np.float32)
    zero_point = np.asarray(quantization.zero_point, np.float32)

    def dequantize(stored: Array, real: Array) -> None:
        np.subtract(stored, zero_point, out=real, dtype=np.float32)
        np.multiply(real, scale, out=real)

    return dequantize


def _converted_into(convert: Convert) -> Fill:
    return lambda stored, real: np.copyto(real, convert(stored))


def _copy(source: Array, target: Array) -> None:
    np.copyto(target, source)


def _cast(source: Array, target: Array) -> None:
    np.copyto(target, source, casting="unsafe")


def _caster(name: str, source: np.dtype[np.generic], target: np.dtype[np.generic]) -> Convert:
    if np.can_cast(source, target, "safe") or source.kind == target.kind == "f":
        return lambda array: array.astype(target)

    def narrow(array: Array) -> Array:
        cast = array.astype(target)
        if not np.array_equal(cast, array):
            raise DataError(f"'{name}' holds values that {target} cannot represent, which this variant takes")
        return cast

    return narrow
