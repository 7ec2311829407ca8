"""Students made from their teacher: narrower, shallower, or without some layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any  # Any: keras models and operations, which have no types

from edgekit.compression.blocks import bypasses, repeated_blocks
from edgekit.compression.flattening import copy_state, flat, from_config, is_layer, nodes, remade, replay
from edgekit.compression.steps import Distill
from edgekit.errors import ModelError
from edgekit.loading import Note, import_keras
from edgekit.wording import said

_WIDTHS = ("filters", "units", "output_dim", "projection_dim", "key_dim", "value_dim")  # settings that count channels
_INNER = ("layer", "backward_layer", "cell")  # settings of wrappers that hold layers
_ROUND_FROM = 16  # channel counts from here on stay multiples of 8, which kernels on devices like

Bypass = Mapping[str, int]  # operation that is left out -> which of its inputs stands in for its output


def make_student(teacher: Any, step: Distill) -> tuple[Any, tuple[Note, ...]]:
    """A student with the teacher's inputs and outputs, without nested models, and what was left out.

    Layers that stay as they were keep the teacher's weights; narrowed ones are drawn anew. Raises ModelError where
    nothing can be left out, or what remains does not fit together, naming the layer.
    """
    source = flat(teacher)
    bypass, notes = dict[str, int](), list[Note]()
    if step.depth is not None:
        blocks = repeated_blocks(source, step.depth)
        bypass |= {name: index for block in blocks for name, index in block.items()}
        ends = ", ".join(list(block)[-1] for block in blocks)
        notes.append(Note("distill", "", f"depth {step.depth:g} left out the {len(blocks)} blocks that end in {ends}"))
    if step.drop:
        bypass |= bypasses(source, step.drop)
    student = _rebuilt(source, bypass, step.width or 1.0)
    _check_dropped(student, step, bypass)
    if step.drop:
        gone = len(source.layers) - len(student.layers)
        notes.append(Note("distill", "", f"left out {gone} of the teacher's {len(source.layers)} layers"))
    return student, tuple(notes)


def _rebuilt(source: Any, bypass: Bypass, width: float) -> Any:
    kept = output_makers(source)
    made: list[tuple[Any, Any]] = []

    def remake(operation: Any, name: str) -> Callable[..., Any]:
        if name in bypass:
            return _stand_in(bypass[name])
        if width == 1.0 or not is_layer(operation) or operation.name in kept:
            twin = remade(operation, name)
        else:
            twin = from_config(operation, {**narrowed(operation.get_config(), width), "name": name})
        made.append((operation, twin))
        return _naming(twin)

    student = replay(source, remake)[0]
    inside = {id(operation) for operation in student.operations}
    for old, new in made:
        if id(new) in inside and is_layer(new) and _shapes(old) == _shapes(new):
            copy_state(old, new)
    return student


def _stand_in(index: int) -> Callable[..., Any]:
    """Instead of an operation: gives back the input of this number."""
    keras = import_keras()

    def call(*args: Any, **kwargs: Any) -> Any:
        return [item for item in keras.tree.flatten((args, kwargs)) if isinstance(item, keras.KerasTensor)][index]

    return call


def _shapes(layer: Any) -> list[Any]:
    return [tuple(variable.shape) for variable in layer.variables]


def narrowed(config: Mapping[str, Any], width: float) -> dict[str, Any]:
    """A layer's config with `width` times the channels, one at least; wrapped layers too."""
    changed = dict(config)
    for key in _WIDTHS:
        if isinstance(changed.get(key), int):
            changed[key] = _narrowed(changed[key], width)
    if config.get("groups", 1) > 1 and config["groups"] == config["filters"]:  # a depthwise convolution
        changed["groups"] = changed["filters"]
    for key in _INNER:
        if isinstance(changed.get(key), dict) and "config" in changed[key]:
            changed[key] = {**changed[key], "config": narrowed(changed[key]["config"], width)}
    return changed


def _narrowed(count: int, width: float) -> int:
    wanted = count * width
    return max(8, 8 * round(wanted / 8)) if count >= _ROUND_FROM else max(1, round(wanted))


def output_makers(model: Any) -> set[str]:
    """The operations that decide the shapes of the outputs: back to the first that has a number of channels."""
    makers = {id(output): node for node in nodes(model) for output in node.outputs}
    found: set[str] = set()
    waiting = list(model.outputs)
    while waiting:
        node = makers.get(id(waiting.pop()))
        if node is None or node.operation.name in found:
            continue
        found.add(node.operation.name)
        config = node.operation.get_config() if is_layer(node.operation) else {}
        if not any(key in config for key in (*_WIDTHS, *_INNER)):
            waiting.extend(node.arguments.keras_tensors)
    return found


def _naming(operation: Any) -> Callable[..., Any]:
    """The operation, which names itself when its inputs do not fit any more."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return _fitting(operation, args)(*args, **kwargs)
        except (ValueError, TypeError, AttributeError) as problem:
            raise ModelError(
                f"Distill: layer '{operation.name}' ({type(operation).__name__}) does not fit into the student "
                f"({said(problem)}); give a student model, or depth or drop instead of width"
            ) from problem

    return call


def _fitting(operation: Any, args: tuple[Any, ...]) -> Any:
    """The operation; a Reshape that names the old number of channels takes the new one."""
    keras = import_keras()
    if not isinstance(operation, keras.layers.Reshape) or None in args[0].shape[1:]:
        return operation
    target, size = list(operation.target_shape), 1
    for extent in args[0].shape[1:]:
        size *= extent
    rest = 1
    for extent in target[:-1]:
        rest *= extent
    if -1 in target or rest * target[-1] == size or size % rest:
        return operation
    return keras.layers.Reshape((*target[:-1], size // rest), name=operation.name)


def _check_dropped(student: Any, step: Distill, bypass: Bypass) -> None:
    """Raise ModelError when a layer that `drop` names is still there: it could not be left out."""
    for layer in student.layers:
        if layer.name not in bypass and any(fnmatchcase(layer.name, pattern) for pattern in step.drop):
            raise ModelError(
                f"Distill.drop: layer '{layer.name}' ({type(layer).__name__}) cannot be left out: its output has "
                "another shape than its input; drop the whole block around it, with the layer that ends it"
            )
