"""Files of a model in which single layers alone compute in integers: what those layers cost, measured on real files."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgekit.calibration import manifest_inputs
from edgekit.conversion import Source, find_converter
from edgekit.converting import convert_one
from edgekit.data import Data
from edgekit.exporting import export_source
from edgekit.measuring import describe
from edgekit.planning import PlannedVariant
from edgekit.runtime import open_file
from edgekit.search.space import Space
from edgekit.search.subject import Subject
from edgekit.tensors import Array

BASE = "int8-float-io"  # all but the layers in question are float in it


class IntegerLayers:
    """Converts the subject's model again and again, from one export that is made when it is first needed."""

    def __init__(self, subject: Subject, space: Space) -> None:
        self._subject, self._space = subject, space
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-sensitivity-")
        self._source: Source | None = None

    def __enter__(self) -> IntegerLayers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def run(self, layers: Sequence[str], precision: str, samples: Data) -> Mapping[str, Array]:
        """Outputs with these layers at `precision` and all others in float32. Raises ConversionError, EngineError."""
        subject, format_name = self._subject, self._subject.format
        patterns = [glob.escape(layer) for layer in layers]
        converter = find_converter(format_name)
        if format_name == "tflite":
            options: dict[str, object] = {"layers": {"*": "fp32", **dict.fromkeys(patterns, precision)}}
        else:
            options = {"keep_float": [name for name in self._layers() if name not in set(patterns)]}
        base = BASE if BASE in converter.precisions else precision
        planned = PlannedVariant(format_name, base, (), ())
        converter = converter.with_options(options, where="sensitivity")
        artifact = convert_one(self._exported(), planned, converter, subject.calibration)
        inputs = manifest_inputs(subject.model.inputs, subject.calibration)
        with open_file(artifact.path, describe(planned, artifact, ()), inputs, subject.model.outputs) as session:
            return session.run(samples.inputs)

    def _exported(self) -> Source:
        if self._source is None:
            self._source = export_source(self._subject.model, Path(self._folder.name))
        return self._source

    def _layers(self) -> list[str]:
        return [glob.escape(name) for layers in self._space.kernels.values() for name in layers]
