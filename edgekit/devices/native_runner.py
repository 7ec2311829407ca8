"""The native runner on a device, as an engine that sessions here run on."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: JSON

import numpy as np

from edgekit.devices.pushing import push_by_content, push_once, remove
from edgekit.devices.replies import read_reply, spoken
from edgekit.devices.transport import Transport
from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.native import Kit
from edgekit.runtime.engines import ENGINES, Engine, EngineStatus, check_tensors
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array

LITERT = "litert"

_XNNPACK = "cpu (XNNPACK)"
LEFT = "some operators are not run by XNNPACK: the native runner cannot name them"
_MODEL = "model.tflite"  # under its hash
_TYPES: Mapping[int, str] = {  # LiteRtElementType, which is TFLite's numbering
    1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float16", 11: "float64",
    13: "uint64", 16: "uint32", 17: "uint16",
}  # fmt: skip
_TFLITE_ALONE = "a device without Python runs TFLite alone"


@dataclass(frozen=True)
class NativePhone:
    """The runner on a device, as the shelf that sessions take their engine from."""

    device: Transport
    kit: Kit
    command: tuple[str, ...]  # starts the runner
    timeout_s: float
    pushed: dict[str, str] = field(default_factory=dict)  # sha256 of a model -> its remote path, verified there once

    def find(self, names: Collection[str] = ENGINES) -> Mapping[str, EngineStatus]:
        """LiteRT is there, in the kit; the others are not."""
        return {name: self._status(name) for name in names}

    def _status(self, name: str) -> EngineStatus:
        if name != LITERT:
            return EngineStatus(name, None, None, _TFLITE_ALONE, least_version_applies=True)
        package = "edgekit-runner with ai-edge-litert"
        return EngineStatus(LITERT, package, self.kit.litert, "", least_version_applies=True)

    def load(self, name: str) -> Engine:
        """The runner is the only engine. Raises EngineError."""
        if name != LITERT:
            raise EngineError(f"engine '{name}' is not on {self.device.url}: {_TFLITE_ALONE}")
        return _NativeEngine(self)

    def push_model(self, content: bytes) -> str:
        """Its remote path."""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self.pushed:
            with tempfile.TemporaryDirectory(prefix="edgekit-model-") as folder:
                path = Path(folder, _MODEL)
                path.write_bytes(content)
                self.pushed[sha256] = push_by_content(self.device, path)
        return self.pushed[sha256]

    def ask(self, *words: str) -> dict[str, Any]:
        """The runner's reply. Raises what it reports, or DeviceError."""
        device = self.device
        result = device.run([*self.command, *words], timeout_s=self.timeout_s, heard=spoken(device.listener))
        return read_reply(result, device.url)


@dataclass(frozen=True)
class _NativeEngine:
    """LiteRT there."""

    phone: NativePhone

    def find(self) -> EngineStatus:
        """Its status."""
        return self.phone.find()[LITERT]

    def open_model(
        self,
        content: bytes,
        inputs: Sequence[Binding],
        outputs: Sequence[Binding],
        *,
        threads: int,
        recipe: Recipe | None = None,  # noqa: ARG002  # of TensorRT alone
        accelerator: str | None = None,
    ) -> NativeRunner:
        """Bring a TFLite file there and ask what it takes. Raises EngineError, DeviceError."""
        if accelerator is not None:
            raise EngineError(f"accelerator '{accelerator}': the native runner chooses by itself; leave it out")
        phone, remote = self.phone, self.phone.push_model(content)
        facts = phone.ask("describe", str(threads), remote)
        takes, gives = (
            _matched(wanted, facts[side], side[:-1]) for wanted, side in ((inputs, "inputs"), (outputs, "outputs"))
        )
        return NativeRunner(phone, remote, threads, takes, gives, _XNNPACK, () if facts["accelerated"] else (LEFT,))


@dataclass(frozen=True)
class _Tensors:
    """One side of a model, in the file's order."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    order: tuple[int, ...]  # for each of them, its place among the bindings

    def pack(self, arrays: Sequence[Array]) -> bytes:
        """Arrays in the bindings' order as the runner reads them."""
        return b"".join(np.ascontiguousarray(arrays[place]).tobytes() for place in self.order)

    def unpack(self, content: bytes) -> list[Array]:
        """The runner's bytes of one run as arrays in the bindings' order."""
        found: dict[int, Array] = {}
        for shape, dtype, place in zip(self.shapes, self.dtypes, self.order, strict=True):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            found[place] = np.frombuffer(content[:size], dtype).reshape(shape).copy()
            content = content[size:]
        return [found[place] for place in sorted(found)]

    @property
    def bytes(self) -> int:
        """Of one run."""
        return sum(
            int(np.prod(shape)) * np.dtype(dtype).itemsize
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        )


def _matched(bindings: Sequence[Binding], tensors: Sequence[Mapping[str, Any]], side: str) -> _Tensors:
    dtypes = {str(item["name"]): _TYPES.get(item["type"], f"type {item['type']}") for item in tensors}
    check_tensors(bindings, dtypes, side)
    shapes = tuple(tuple(item["shape"]) for item in tensors)
    for name, shape in zip(dtypes, shapes, strict=True):
        if any(size < 0 for size in shape):
            raise EngineError(f"{side} tensor '{name}' leaves a size open, which the native runner does not take")
    places = {binding.tensor: place for place, binding in enumerate(bindings)}
    return _Tensors(shapes, tuple(dtypes.values()), tuple(places[name] for name in dtypes))


@dataclass
class NativeRunner:
    """One model there. Each question opens it anew: what a process held does not outlive it."""

    phone: NativePhone
    remote: str
    threads: int
    takes: _Tensors
    gives: _Tensors
    accelerator: str
    notes: tuple[str, ...] = ()
    shapes: tuple[tuple[int | None, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        by_place = dict(zip(self.takes.order, self.takes.shapes, strict=True))
        self.shapes = tuple(by_place[place] for place in sorted(by_place))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once. Raises EngineError, DeviceError."""
        return self.run_each([arrays])[0]

    def run_each(self, runs: Iterable[Sequence[Array]]) -> list[list[Array]]:
        """Run several times, all inputs there and all outputs back in one go."""
        device = self.phone.device
        with tempfile.TemporaryDirectory(prefix="edgekit-run-") as folder:
            got = Path(folder, "outputs")
            given = self.push_inputs(runs)
            answer = given.replace("inputs", "outputs")
            try:
                count = self.phone.ask("run", str(self.threads), self.remote, given, answer)["runs"]
                device.pull(answer, got)
            finally:
                remove(device, given, answer)
            content, size = got.read_bytes(), self.gives.bytes
        if len(content) != size * count:
            raise EngineError(f"{device.url}: {len(content)} bytes of outputs came back, expected {size * count}")
        return [self.gives.unpack(content[at * size : (at + 1) * size]) for at in range(count)]

    def push_inputs(self, runs: Iterable[Sequence[Array]]) -> str:
        """Their remote path, which no other call has."""
        with tempfile.TemporaryDirectory(prefix="edgekit-run-") as folder:
            path = Path(folder, "inputs")
            path.write_bytes(b"".join(self.takes.pack(arrays) for arrays in runs))
            return push_once(self.phone.device, path)

    def close(self) -> None:
        """Nothing is held there."""
