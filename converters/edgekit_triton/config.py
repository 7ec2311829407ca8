"""`config.pbtxt`: what Triton must know of a model.

Source: ModelConfig in triton-inference-server/common, protobuf/model_config.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit_triton.batching import NO_BATCHING
from edgekit_triton.choosing import ONNX, PLAN
from edgekit_triton.options import Options
from edgekit_triton.pbtxt import Enumerator, Fields, Message, to_text
from edgekit_triton.signature import Shape, Signature, Tensor
from edgekit_triton.warmup import Sample

CONFIG_FILE, LABELS_FILE = "config.pbtxt", "labels.txt"
MODEL_FILES = {ONNX: "model.onnx", PLAN: "model.plan"}  # the names that the backends look for
PLATFORMS = {ONNX: "onnxruntime_onnx", PLAN: "tensorrt_plan"}

_DATA_TYPES = {  # the table "Datatypes" of model_configuration.md
    "bool": "TYPE_BOOL",
    **{f"{sign}int{bits}": f"TYPE_{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
}
_ACCELERATED = {"fp16": "FP16", "int8": "INT8"}  # the precision that TensorRT may use; of others, FP32
HEADER = "# Written by edgekit. All versions of this model share this file.\n"


@dataclass(frozen=True)
class Facts:
    """What a configuration is made of."""

    name: str
    format: str
    precision: str
    signature: Signature
    max_batch_size: int
    labelled: str | None  # the output, by its Keras name, whose classes have labels
    samples: Sequence[Sample]


def config_text(facts: Facts, options: Options) -> str:
    """The whole file."""
    batched = facts.max_batch_size != NO_BATCHING
    outputs = facts.signature.outputs
    fields: Fields = [
        ("name", facts.name),
        ("platform", PLATFORMS[facts.format]),
        ("max_batch_size", facts.max_batch_size),
        *(("input", Message(_tensor(tensor, batched))) for tensor in facts.signature.inputs),
        *(("output", Message((*_tensor(tensor, batched), *_labels(tensor, facts)))) for tensor in outputs),
        ("version_policy", version_policy(options.version_policy)),
        *_dynamic_batching(facts, options),
        *_instance_group(options),
        *_optimization(facts, options),
        *(("model_warmup", message) for message in _warmup(facts)),
    ]
    return HEADER + to_text(Message(fields))


def _tensor(tensor: Tensor, batched: bool) -> Fields:
    dims = tensor.shape[1:] if batched else tensor.shape  # where Triton batches, it adds the batch itself
    fields: Fields = (
        ("name", tensor.binding.tensor),
        ("data_type", data_type(tensor.binding.dtype)),
        ("dims", dims_of(dims)),
    )
    # `dims` may not be empty: one number for each sample is [ 1 ] to clients and nothing beside the batch to the model.
    return (*fields, ("reshape", Message([("shape", ())]))) if batched and not dims else fields


def data_type(dtype: str) -> Enumerator:
    """Triton's word for a numpy dtype."""
    return Enumerator(_DATA_TYPES[dtype])


def dims_of(shape: Shape) -> tuple[int, ...]:
    """As `dims` have it: an open size is -1, and no size at all is 1."""
    return tuple(-1 if size is None else size for size in shape) or (1,)


def _labels(tensor: Tensor, facts: Facts) -> Fields:
    return [("label_filename", LABELS_FILE)] if tensor.binding.name == facts.labelled else []


def version_policy(words: str) -> Message:
    """Of --version-policy."""
    kind, _, numbers = words.partition(":")
    if kind == "all":
        return Message([("all", Message())])
    if kind == "latest":
        return Message([("latest", Message([("num_versions", int(numbers))]))])
    return Message([("specific", Message([("versions", tuple(map(int, numbers.split(","))))]))])


def _dynamic_batching(facts: Facts, options: Options) -> Fields:
    """Preferred sizes only where they were asked for: batcher.md advises against them for most models."""
    if facts.max_batch_size <= 1:
        return []
    fields: list[tuple[str, int | tuple[int, ...]]] = []
    if options.preferred_batch:
        fields.append(("preferred_batch_size", options.preferred_batch))
    if options.max_queue_delay_us is not None:
        fields.append(("max_queue_delay_microseconds", options.max_queue_delay_us))
    return [("dynamic_batching", Message(fields))]


def _instance_group(options: Options) -> Fields:
    """Each GPU gets `instances` copies of the whole model; nothing where the server's own choice will do."""
    count = ("count", options.instances or 1)
    if options.cpu:
        return [("instance_group", Message([count, ("kind", Enumerator("KIND_CPU"))]))]
    if options.gpus:
        fields: Fields = [count, ("kind", Enumerator("KIND_GPU")), ("gpus", options.gpus)]
        return [("instance_group", Message(fields))]
    return [("instance_group", Message([count]))] if options.instances else []


def _optimization(facts: Facts, options: Options) -> Fields:
    if not options.tensorrt_accelerator:
        return []
    mode = _ACCELERATED.get(facts.precision, "FP32")
    precision = Message([("key", "precision_mode"), ("value", mode)])
    accelerator = Message([("name", "tensorrt"), ("parameters", precision)])
    chosen = Message([("gpu_execution_accelerator", accelerator)])
    return [("optimization", Message([("execution_accelerators", chosen)]))]


def _warmup(facts: Facts) -> list[Message]:
    sizes = {"golden": 1}
    if facts.max_batch_size > 1:
        sizes[f"golden-batch-{facts.max_batch_size}"] = facts.max_batch_size
    inputs = [("inputs", _warmup_input(sample, facts)) for sample in facts.samples]
    return [Message([("name", name), ("batch_size", size), *inputs]) for name, size in sizes.items()]


def _warmup_input(sample: Sample, facts: Facts) -> Message:
    (dtype,) = [tensor.binding.dtype for tensor in facts.signature.inputs if tensor.binding.tensor == sample.input]
    values = Message(
        [
            ("data_type", data_type(dtype)),
            ("dims", dims_of(sample.values.shape)),
            ("input_data_file", sample.file),
        ]
    )
    return Message([("key", sample.input), ("value", values)])
