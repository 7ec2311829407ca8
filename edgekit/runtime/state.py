"""Models that keep something from call to call: state in tensors that the session hands on, or in the file's variables.

Either begins at zero. A session runs one stream of calls; `Session.new_stream` begins another that knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from edgekit.errors import EngineError
from edgekit.manifest import State, StateTensor
from edgekit.runtime.engines import Runner
from edgekit.tensors import Array

Open = Callable[[], Runner]


@runtime_checkable
class StatefulRunner(Runner, Protocol):
    """A runner whose calls go on where the last one stopped."""

    shares_model: bool  # whether what `fork` gives runs in the same opened model, so that they take turns

    def reset(self) -> None:
        """Begin anew."""
        ...

    def fork(self) -> StatefulRunner:
        """Another stream of the same model, at its beginning."""
        ...


@runtime_checkable
class CallingRunner(Protocol):
    """A runner of a file with several functions."""

    def call(self, function: str, inputs: Mapping[str, Array]) -> None:
        """Run one of the others for what it changes. Raises EngineError when the file has none of that name."""
        ...


def with_state(open_runner: Open, state: State) -> StatefulRunner:
    """A runner that keeps `state`; `open_runner` opens the file with the state's tensors after all others."""
    if state.tensors:
        return TensorState(SharedRunner(open_runner()), state.tensors)
    return VariableState(open_runner)


class SharedRunner:
    """One opened model of several streams; the last one closes it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._users = 1

    def take(self) -> SharedRunner:
        """For one more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """By one of them."""
        self._users -= 1
        if not self._users:
            self.runner.close()


class TensorState:
    """State that the file takes and gives: it stays in the file's own dtypes, without a copy."""

    shares_model = True

    def __init__(self, shared: SharedRunner, tensors: Sequence[StateTensor]) -> None:
        self._shared = shared
        self._tensors = tensors
        self._inputs = len(shared.runner.shapes) - len(tensors)
        self.accelerator = shared.runner.accelerator
        self.notes = shared.runner.notes
        self.shapes = shared.runner.shapes[: self._inputs]
        self._hand_on = [_hand_on(tensor) for tensor in tensors]
        self._check_shapes(shared.runner.shapes[self._inputs :])
        self._held: list[Array] = []
        self.reset()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run one step. A step that fails leaves the state as it was."""
        results = self._shared.runner.run([*arrays, *self._held])
        outputs = len(results) - len(self._tensors)
        given = results[outputs:]
        self._held = [array if hand_on is None else hand_on(array) for hand_on, array in zip(self._hand_on, given)]  # noqa: B905  # hot path
        return results[:outputs]

    def reset(self) -> None:
        """Zero, as the file stores it."""
        self._held = [np.full(tensor.shape, _zero(tensor), tensor.taken.dtype) for tensor in self._tensors]

    def fork(self) -> TensorState:
        """Another state, in the same opened model."""
        return TensorState(self._shared.take(), self._tensors)

    def close(self) -> None:
        """Free the model with its last stream."""
        self._shared.release()

    def _check_shapes(self, shapes: Sequence[tuple[int | None, ...]]) -> None:
        for tensor, shape in zip(self._tensors, shapes, strict=True):
            if len(shape) != len(tensor.shape) or any(
                size not in (None, wanted) for size, wanted in zip(shape, tensor.shape, strict=True)
            ):
                raise EngineError(f"state '{tensor.taken.name}' has shape {shape}, the manifest says {tensor.shape}")


class VariableState:
    """State that the file keeps: only opening it anew begins anew, and each stream opens the model for itself."""

    shares_model = False

    def __init__(self, open_runner: Open) -> None:
        self._open = open_runner
        self._runner = open_runner()
        self.calls = 0  # each changes the state
        self.accelerator = self._runner.accelerator
        self.notes = self._runner.notes
        self.shapes = self._runner.shapes

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run one step."""
        self.calls += 1
        return self._runner.run(arrays)

    def call(self, function: str, inputs: Mapping[str, Array]) -> None:
        """Run another function of the file. Raises EngineError when the engine has no way to it."""
        if not isinstance(self._runner, CallingRunner):
            raise EngineError(f"what runs the file has no way to its function '{function}'")
        self.calls += 1
        self._runner.call(function, inputs)

    def reset(self) -> None:
        """Open the model anew; when that fails, it stays as it is."""
        fresh = self._open()
        self._runner.close()
        self._runner = fresh
        self.calls += 1

    def fork(self) -> VariableState:
        """The model once more."""
        return VariableState(self._open)

    def close(self) -> None:
        """Free this stream's model."""
        self._runner.close()


def _zero(tensor: StateTensor) -> int:
    return 0 if tensor.taken.quantization is None else tensor.taken.quantization.zero_point


def _hand_on(tensor: StateTensor) -> Callable[[Array], Array] | None:
    """How what came out goes in again: as it is, unless the file quantizes its two ends differently."""
    taken, given = tensor.taken, tensor.given
    if (taken.dtype, taken.quantization) == (given.dtype, given.quantization):
        return None

    def requantized(array: Array) -> Array:
        real = array if given.quantization is None else given.quantization.dequantize(array)
        return (
            real.astype(taken.dtype) if taken.quantization is None else taken.quantization.quantize(real, taken.dtype)
        )

    return requantized
