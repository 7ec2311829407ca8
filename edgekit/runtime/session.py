"""A session: one opened variant, fed and read under the Keras names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast  # Any: arrays of other libraries

import numpy as np

from edgekit.errors import DataError, EngineError
from edgekit.manifest import Binding, Input, Language
from edgekit.runtime.arrays import sample_inputs
from edgekit.runtime.choosing import Choice
from edgekit.runtime.cuda_memory import device_array, on_device
from edgekit.runtime.engines import FarRunner, FillingRunner, GpuRunner, Runner
from edgekit.runtime.ports import Ports, input_port, output_port
from edgekit.runtime.state import StatefulRunner, VariableState
from edgekit.runtime.submissions import Pending, Submissions
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP, Timing, measure
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.engine_onnx import OnnxRunner
    from edgekit.runtime.generation import Decoder, Generation
    from edgekit.runtime.profiling import OperatorTime, Profile
    from edgekit.runtime.stages import Stages

DEFAULT_QUEUE_SIZE = 4
Found = TypeVar("Found")
Reopen = Callable[..., Runner]  # the same file once more, with more arguments of its engine's `open_model`


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs in Keras order, each with its binding in the variant's file."""

    where: str  # the file, for messages
    inputs: tuple[Input, ...]
    outputs: tuple[TensorSpec, ...]
    input_bindings: tuple[Binding, ...]
    output_bindings: tuple[Binding, ...]
    language: Language | None = None
    tokenizer: bytes = b""  # of a language model: a tokenizer.json


class Session:
    """One opened variant, float in and float out whatever its precision.

    Calls from several threads take turns; open a session for each thread to run side by side. A model with state goes
    on where the last call stopped.
    """

    def __init__(
        self,
        runner: Runner,
        signature: Signature,
        choice: Choice,
        *,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        reopen: Reopen | None = None,
        lock: threading.Lock | None = None,
    ) -> None:
        """Use `open_bundle` or `open_file`."""
        self.inputs = tuple(item.spec for item in signature.inputs)
        self.outputs = signature.outputs
        self.choice = choice
        self._runner: Runner | None = runner
        self._signature = signature
        self._where = signature.where
        self._ports = _ports(runner, signature, raw=False)
        self._raw_ports = _ports(runner, signature, raw=True)
        self._lock = lock or threading.Lock()
        self._fills = isinstance(runner, FillingRunner)
        self._queue_size = queue_size
        self._reopen = reopen
        self._submissions: Submissions | None = None
        self._starting = threading.Lock()  # of what does submitted runs

    @property
    def runner(self) -> Runner | None:
        """What runs the model; None once the session is closed."""
        return self._runner

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self, inputs: Mapping[str, Array], *, raw: bool = False, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run the model on arrays by input name; any number of samples where the batch dimension is dynamic.

        Arrays have the shapes and dtypes of `inputs`, and results those of `outputs`; with `raw`, the dtypes that the
        variant's file has, without quantization. A file made for one sample runs once for each.
        `out` has an array for each output to be written to, of exactly its shape and dtype; the results are then these.
        On TensorRT an array may be in the GPU's memory already (cupy, torch: `__cuda_array_interface__`) and is read
        there. Raises DataError on a wrong name, shape or dtype, or on NaN for an integer input; EngineError when the
        engine fails or the session is closed.
        """
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            raise DataError(f"{self._where}: run takes a dict of arrays by input name, got {type(inputs).__name__}")
        ports = self._raw_ports if raw else self._ports
        with self._lock:
            runner = self._runner
            if runner is None:
                raise self._closed()
            if out is not None:
                return self._run_into(runner, ports, inputs, out)
            arrays = ports.take_common(inputs)
            if arrays is not None:
                return ports.give(runner.run(arrays))
            return self._run_checked(runner, ports, inputs)

    def preprocess(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """Raw pixels and samples as `run` takes them, by what the bundle's manifest declares of each input.

        A picture is (height, width[, channels]) from 0 to 255, a sound (samples,) of int16 or from -1 to 1; either may
        be a batch. Inputs without a declared preprocessing pass as they are. Raises DataError on another name or shape,
        and where nothing is declared at all.
        """
        from edgekit.preprocessing.applying import preprocess_all  # not needed by most: open stays quick

        return preprocess_all(raw, self._signature.inputs, where=self._where)

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stream: bool = False,
    ) -> Generation:
        """The text that a language model makes of a prompt; with `stream`, to iterate over as it comes.

        It ends with a stop token of the bundle, after `max_tokens`, or where the context is full (None). How tokens are
        chosen: `edgekit.runtime.sampling.Sampling`. A session has one text at a time; `new_stream` gives another.
        Needs the package `tokenizers`. Raises EngineError without it, for a bundle without a language model, and when
        the engine fails; DataError for a prompt without tokens or beyond the context; ConfigError.
        """
        from edgekit.runtime.generation import begin_text
        from edgekit.runtime.sampling import Sampling

        sampling = Sampling(temperature, top_k, top_p, seed)
        text = begin_text(self.decoder(), self._signature.tokenizer, prompt, sampling, max_tokens)
        return text if stream else text.finish()

    def decoder(self) -> Decoder:
        """`generate` in tokens, for which numpy is enough. Raises EngineError where the bundle holds no such model."""
        from edgekit.runtime.generation import Decoder

        language = self._signature.language
        if language is None:
            raise EngineError(f"{self._where}: the bundle holds no language model: give `run` its inputs")
        return Decoder(self._use_state, language, self.inputs, self.outputs[0], self._where)

    def run_batch(self, samples: Sequence[Mapping[str, Array]], *, raw: bool = False) -> list[dict[str, Array]]:
        """`run` on each of several inputs; together, where the file takes any number of samples, in as many as fit.

        All inputs are checked before any runs. Raises what `run` does, and says which of them was wrong.
        """
        ports = self._raw_ports if raw else self._ports
        for index, sample in enumerate(samples):
            if not isinstance(sample, Mapping):
                raise DataError(
                    f"{self._where}: sample {index} is a {type(sample).__name__}, expected a dict of arrays"
                )
            ports.check(self._located(sample), f"{self._where}: sample {index}")
        if len(samples) < 2 or isinstance(self._runner, StatefulRunner) or not ports.joins(samples):
            return [self.run(sample, raw=raw) for sample in samples]
        return ports.split(self.run(ports.joined(samples), raw=raw), samples)

    def submit(self, inputs: Mapping[str, Array], *, raw: bool = False, wait_s: float | None = None) -> Pending:
        """`run` later, in a thread of the session's own; `Pending.result` waits for the outputs.

        At most `queue_size` runs wait, in their order: with that many, this waits for room, `wait_s` seconds at most
        (None: for ever). The arrays are not copied: leave them alone until the result is there. Raises EngineError when
        there is no room, or the session is closed; what is wrong with `inputs` is raised by `result`.
        """
        with self._starting:
            if self._runner is None:
                raise self._closed()
            if self._submissions is None:
                self._submissions = Submissions(self._run_submitted, size=self._queue_size, where=self._where)
            submissions = self._submissions
        pending = Pending(inputs, raw=raw)
        submissions.submit(pending, wait_s=wait_s)
        return pending

    @property
    def stateful(self) -> bool:
        """Whether a call goes on where the last one stopped."""
        return isinstance(self._runner, StatefulRunner)

    def reset_state(self) -> None:
        """Begin anew, with zeros for state. Raises EngineError when the model keeps none, or the session is closed."""
        with self._lock:
            self._stateful_runner().reset()

    def new_stream(self) -> Session:
        """A session with a state of its own, at its beginning, on the same opened model.

        Where the file keeps its state itself, the model is opened once more. Each stream is closed by itself; the model
        is freed with the last. Raises EngineError as `reset_state` does.
        """
        with self._lock:
            runner = self._stateful_runner().fork()
        return Session(
            runner,
            self._signature,
            self.choice,
            queue_size=self._queue_size,
            reopen=self._reopen,
            lock=self._lock if runner.shares_model else None,
        )

    def benchmark(
        self,
        inputs: Mapping[str, Array] | None = None,
        *,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
    ) -> Timing:
        """Time `run` on `inputs`, or on one made-up sample in the range of the calibration data."""
        sample = self.sample() if inputs is None else inputs
        return measure({"run": lambda: self.run(sample)}, warmup=warmup, runs=runs)["run"]

    def stages(
        self,
        inputs: Mapping[str, Array] | None = None,
        *,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
    ) -> Stages | None:
        """Where the time of one run goes on a GPU, by CUDA's events; None where the engine runs on no GPU of ours.

        `inputs` are one piece that the engine takes at once. Raises as `run` does.
        """
        from edgekit.runtime.stages import measure_stages

        with self._lock:
            runner = self._runner
            if not isinstance(runner, GpuRunner):
                return None
            given = self._located(self.sample() if inputs is None else inputs)
            self._ports.check(given, self._where)
            pieces = self._ports.batches(given, self._where)
            if len(pieces) > 1:
                raise DataError(f"{self._where}: {len(pieces)} runs are needed for these samples; give those of one")
            arrays = self._ports.convert(pieces[0])
            return measure_stages(lambda: runner.timed_run(arrays), warmup=warmup, runs=runs)

    def prepared(self, inputs: Mapping[str, Array]) -> list[Array]:
        """What the engine takes for the first run that `inputs` need; valid until the next run. Raises DataError."""
        given = self._located(inputs)
        self._ports.check(given, self._where)
        return self._ports.convert(self._ports.batches(given, self._where)[0])

    def profile(
        self,
        inputs: Mapping[str, Array] | None = None,
        *,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
    ) -> Profile:
        """`benchmark` with what each operator takes, peak memory and energy, as far as the engine and machine say.

        ONNX Runtime opens the file once more, to time its operators. Raises as `benchmark` does, BundleError where the
        file has changed since it was opened.
        """
        from edgekit.runtime.profiling import Profile, measured  # few sessions ask, and all would wait for its import

        sample = self.sample() if inputs is None else inputs
        timing, peak_rss_bytes, energy = measured(lambda: self.benchmark(sample, warmup=warmup, runs=runs))
        operators, missing = self._operators(sample, warmup, runs)
        return Profile(timing, operators, missing, peak_rss_bytes, energy)

    def sample(self) -> dict[str, Array]:
        """One made-up sample, uniform in the range of the calibration data; the same every time."""
        return sample_inputs(self._signature.inputs)

    def close(self) -> None:
        """Free the model, once the run under way has ended; a second close is harmless.

        Submitted runs that still wait are not run: their `result` raises EngineError.
        """
        with self._starting:
            submissions, self._submissions = self._submissions, None
            if submissions is not None:
                submissions.close()
            self._free()

    def _free(self) -> None:
        with self._lock:
            if self._runner is not None:
                self._runner.close()
                self._runner = None

    def _operators(
        self, sample: Mapping[str, Array], warmup: int, runs: int
    ) -> tuple[tuple[OperatorTime, ...], str | None]:
        """Times of operators, or why there are none."""
        from edgekit.runtime.profiling import operator_times, read_onnx_profile

        if self.stateful:
            return (), "operators of a model with state are not timed"
        pieces = self._ports.batches(self._located(sample), self._where)
        arrays = [array.copy() for array in self._ports.convert(pieces[0])]
        if isinstance(self._runner, GpuRunner):
            with self._lock:
                layers = self._runner.layer_times(arrays, runs=warmup + runs)[warmup:]
            return operator_times((name, "", "GPU", ms) for run in layers for name, ms in run), None
        if self.choice.engine != "onnxruntime" or self._reopen is None:
            return (), f"{self.choice.package} has no profiler of operators in its Python package"
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="edgekit-") as folder:
            runner = cast("OnnxRunner", self._reopen(profile=Path(folder, "onnx")))
            for _ in range(warmup + runs):
                runner.run(arrays)
            written = runner.end_profile()
            runner.close()
            return read_onnx_profile(written, skip=warmup), None

    def _use_state(self, function: Callable[[VariableState], Found], /) -> Found:
        with self._lock:  # the state of language models is in variables: their manifest was checked
            return function(cast(VariableState, self._stateful_runner()))

    def _closed(self) -> EngineError:
        return EngineError(f"{self._where}: the session is closed; open it again")

    def _stateful_runner(self) -> StatefulRunner:
        if self._runner is None:
            raise self._closed()
        if not isinstance(self._runner, StatefulRunner):
            raise EngineError(f"{self._where}: variant '{self.choice.variant}' keeps no state from call to call")
        return self._runner

    def _run_submitted(self, inputs: Mapping[str, Array], raw: bool) -> dict[str, Array]:  # of Work
        return self.run(inputs, raw=raw)

    def _run_into(
        self, runner: Runner, ports: Ports, inputs: Mapping[str, Array], out: Mapping[str, Array]
    ) -> dict[str, Array]:
        ports.check_out(out, self._where)
        arrays = ports.take_common(inputs)
        if arrays is None:
            for name, result in self._run_checked(runner, ports, inputs).items():
                if result.shape != out[name].shape:
                    raise DataError(
                        f"{self._where}: out '{name}' has shape {out[name].shape}, the model gives {result.shape}"
                    )
                np.copyto(out[name], result)
        elif ports.as_given and self._fills:
            cast(FillingRunner, runner).run_into(arrays, [out[port.name] for port in ports.outputs])
        else:
            ports.fill(runner.run(arrays), out, self._where)
        return dict(out)

    def _run_checked(self, runner: Runner, ports: Ports, inputs: Mapping[str, Array]) -> dict[str, Array]:
        inputs = self._located(inputs)
        ports.check(inputs, self._where)
        converted = map(ports.convert, ports.batches(inputs, self._where))
        results = runner.run_each(converted) if isinstance(runner, FarRunner) else map(runner.run, converted)
        pieces = [ports.give(result) for result in results]
        return ports.join(pieces, self._where)

    def _located(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same with arrays of a GPU's memory as DeviceArray. Raises DataError where the engine cannot read them."""
        there = [name for name, array in inputs.items() if on_device(array)]
        if there and not isinstance(self._runner, GpuRunner):
            raise DataError(f"{self._where}: '{there[0]}' is in a GPU's memory, {self.choice.engine} takes numpy's")
        return {name: device_array(name, array) if name in there else array for name, array in inputs.items()}


def _ports(runner: Runner, signature: Signature, *, raw: bool) -> Ports:
    specs: Sequence[TensorSpec] = [item.spec for item in signature.inputs]
    takes = zip(specs, signature.input_bindings, runner.shapes, strict=True)
    gives = zip(signature.outputs, signature.output_bindings, strict=True)
    return Ports(
        [input_port(spec, binding, shape, raw=raw) for spec, binding, shape in takes],
        [output_port(spec, binding, raw=raw) for spec, binding in gives],
    )
