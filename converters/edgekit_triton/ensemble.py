"""Two more models where the bundle declares preprocessing: one that prepares raw inputs, and the two in a row.

`NAME-preprocessing` runs in Triton's Python backend, `NAME-ensemble` takes raw pixels or samples and gives the model's
outputs under their Keras names. Sources: ModelEnsembling in protobuf/model_config.proto; docs/user_guide/
ensemble_models.md of `server`; README.md of `python_backend`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from edgekit.manifest import Input, Manifest
from edgekit.preprocessing.declared import Preprocessing
from edgekit_triton.batching import NO_BATCHING
from edgekit_triton.config import CONFIG_FILE, HEADER, LABELS_FILE, Facts, data_type, dims_of, version_policy
from edgekit_triton.options import Options
from edgekit_triton.pbtxt import Enumerator, Fields, Message, to_text
from edgekit_triton.signature import Tensor

PREPROCESSING, ENSEMBLE = "-preprocessing", "-ensemble"
MODEL_FILE, DECLARED_FILE = "model.py", "preprocessing.json"
_COPIED = ("__init__", "errors", "strict", "tensors")  # of edgekit, beside its folder `preprocessing`
_NEWEST = -1


@dataclass(frozen=True)
class Companion:
    """A model of the repository that is written beside the one that was asked for."""

    name: str
    shared: Mapping[str, bytes]  # files that all versions share
    versioned: Mapping[str, bytes]  # files of this version; none: its folder is empty


def companions(facts: Facts, manifest: Manifest, options: Options, labels: bytes | None) -> tuple[Companion, ...]:
    """What stands before the model, and the ensemble of both; nothing where no input has a preprocessing."""
    declared = {item.name: item for item in manifest.inputs if item.preprocessing is not None}
    if not declared or options.no_preprocessing:
        return ()
    prepared = [tensor for tensor in facts.signature.inputs if tensor.binding.name in declared]
    before = Companion(
        facts.name + PREPROCESSING,
        {CONFIG_FILE: _preprocessing_config(facts, declared, prepared, options).encode()},
        {MODEL_FILE: _source("edgekit_triton", "preprocessing_model.py"), **dict(_copied()),
         DECLARED_FILE: _declared_json(declared, prepared)},
    )  # fmt: skip
    shared: dict[str, bytes] = {CONFIG_FILE: _ensemble_config(facts, declared, options).encode()}
    return before, Companion(facts.name + ENSEMBLE, shared | ({LABELS_FILE: labels} if labels else {}), {})


def write_companion(companion: Companion, folder: Path, version: int) -> None:
    """Write it as `folder`."""
    of_version = {f"{version}/{name}": content for name, content in companion.versioned.items()}
    (folder / str(version)).mkdir(parents=True)
    for name, content in {**companion.shared, **of_version}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _copied() -> Iterator[tuple[str, bytes]]:
    for module in _COPIED:
        yield f"edgekit/{module}.py", _source("edgekit", f"{module}.py")
    sources = files("edgekit").joinpath("preprocessing").iterdir()
    for name in sorted(source.name for source in sources if source.name.endswith(".py")):
        yield f"edgekit/preprocessing/{name}", _source("edgekit", "preprocessing", name)


def _source(package: str, *parts: str) -> bytes:
    return files(package).joinpath(*parts).read_bytes()


def _declared_json(declared: Mapping[str, Input], prepared: list[Tensor]) -> bytes:
    """What `preprocessing_model.py` reads."""
    inputs = []
    for tensor in prepared:
        item, binding = declared[tensor.binding.name], tensor.binding
        assert item.preprocessing is not None
        stored = {"tensor": binding.tensor, "stored_dtype": binding.dtype}
        quantization = None if binding.quantization is None else asdict(binding.quantization)
        how = {"preprocessing": asdict(item.preprocessing), "quantization": quantization}
        inputs.append({"name": item.name, "shape": item.shape, "dtype": item.dtype, **stored, **how})
    return json.dumps({"inputs": inputs}, indent=1).encode() + b"\n"


def _preprocessing_config(facts: Facts, declared: Mapping[str, Input], prepared: list[Tensor], options: Options) -> str:
    on_cpu = Message([("count", options.instances or 1), ("kind", Enumerator("KIND_CPU"))])
    fields: Fields = [
        ("name", facts.name + PREPROCESSING),
        ("backend", "python"),
        ("max_batch_size", facts.max_batch_size),
        *(("input", _raw(declared[tensor.binding.name], facts)) for tensor in prepared),
        *(("output", _tensor(tensor.binding.tensor, tensor, facts)) for tensor in prepared),
        ("version_policy", version_policy(options.version_policy)),
        ("instance_group", on_cpu),
    ]
    return HEADER + to_text(Message(fields))


def _ensemble_config(facts: Facts, declared: Mapping[str, Input], options: Options) -> str:
    inputs, outputs = facts.signature.inputs, facts.signature.outputs
    prepared = [tensor for tensor in inputs if tensor.binding.name in declared]
    before = _step(
        facts.name + PREPROCESSING,
        {tensor.binding.name: tensor.binding.name for tensor in prepared},
        {tensor.binding.tensor: _between(tensor) for tensor in prepared},
    )
    taken = {
        tensor.binding.tensor: _between(tensor) if tensor in prepared else tensor.binding.name for tensor in inputs
    }
    model = _step(facts.name, taken, {tensor.binding.tensor: tensor.binding.name for tensor in outputs})
    fields: Fields = [
        ("name", facts.name + ENSEMBLE),
        ("platform", "ensemble"),
        ("max_batch_size", facts.max_batch_size),
        *(
            ("input", _raw(declared[name], facts) if name in declared else _tensor(name, tensor, facts))
            for tensor in inputs
            for name in (tensor.binding.name,)
        ),
        *(("output", _ensemble_output(tensor, facts)) for tensor in outputs),
        ("version_policy", version_policy(options.version_policy)),
        ("ensemble_scheduling", Message([("step", before), ("step", model)])),
    ]
    return HEADER + to_text(Message(fields))


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Message:
    """Maps go from the model's names to the ensemble's."""
    maps = (("input_map", inputs), ("output_map", outputs))
    entries = [(kind, Message([("key", key), ("value", value)])) for kind, of in maps for key, value in of.items()]
    return Message([("model_name", model), ("model_version", _NEWEST), *entries])


def _between(tensor: Tensor) -> str:
    return f"prepared {tensor.binding.name}"


def _raw(item: Input, facts: Facts) -> Message:
    """Pixels in any size, UINT8; or samples, FP32."""
    assert isinstance(item.preprocessing, Preprocessing)
    dtype, sizes = ("uint8", 3) if item.preprocessing.picture is not None else ("float32", 1)
    open_sizes: tuple[int | None, ...] = (None,) * (sizes + (facts.max_batch_size == NO_BATCHING))
    return Message([("name", item.name), ("data_type", data_type(dtype)), ("dims", dims_of(open_sizes))])


def _ensemble_output(tensor: Tensor, facts: Facts) -> Message:
    name = tensor.binding.name
    labels: Fields = [("label_filename", LABELS_FILE)] if name == facts.labelled else []
    return Message((*_tensor(name, tensor, facts).fields, *labels))


def _tensor(name: str, tensor: Tensor, facts: Facts) -> Message:
    shape = tensor.shape if facts.max_batch_size == NO_BATCHING else tensor.shape[1:]
    return Message([("name", name), ("data_type", data_type(tensor.binding.dtype)), ("dims", dims_of(shape))])
