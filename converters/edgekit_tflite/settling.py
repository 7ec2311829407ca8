"""What is done to each operator: the variant's precision, then the user's `ops`, `layers` and `keep_float`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod

from edgekit.errors import ConversionError, did_you_mean
from edgekit_tflite.graphs import CONTROL
from edgekit_tflite.layers import NamedOperator, kernel_of
from edgekit_tflite.options import DYNAMIC, DYNAMIC_ALGORITHMS, STATIC, TFLiteOptions

SMALL = 1024  # numbers in a kernel that may stay float where weights alone are integers
SPARED = 0.01  # of all weights, at most


@dataclass(frozen=True)
class Setting:
    """How one operator is quantized."""

    precision: str  # one of LAYER_PRECISIONS
    algorithm: str = "min-max"
    block_size: int | None = None
    weight_only: bool = False  # integers are made floats again where they are used


Takes = Callable[[str, Setting], bool]  # whether the quantizer has this setting for operators of a type
Settled = Sequence[tuple[NamedOperator, Setting]]


def settle(operators: Sequence[NamedOperator], precision: str, options: TFLiteOptions, takes: Takes) -> Settled:
    """Decide for each operator. `precision` is the variant's.

    An operator that has no form in the variant's precision is settled all the same, and the quantizer leaves it in
    float. Raises ConversionError when a pattern matches no operator, when no operator of a pattern can have its
    precision, and when the algorithm has nothing to work on.
    """
    precisions = _precisions(operators, precision.removesuffix("-float-io"), options, takes)
    settled = [
        (named, _setting(named, word, options, takes)) for named, word in zip(operators, precisions, strict=True)
    ]
    if options.algorithm != "min-max" and all(setting.algorithm == "min-max" for _, setting in settled):
        raise ConversionError(
            f"algorithm '{options.algorithm}' fits no operator of this model in {precision}: choose another algorithm"
            + (f"; it is for {' and '.join(DYNAMIC)}" if options.algorithm in DYNAMIC_ALGORITHMS else "")
        )
    return settled


def settle_bodies(settled: Settled, bodies: Collection[int], takes: Takes) -> Settled:
    """The same where no activation can be an integer: in the graphs of loops and branches, by number.

    There the static precisions are dynamic-int8, which has integer weights, or else float.
    """
    return [
        (named, _in_body(named, setting, takes) if named.graph in bodies else setting) for named, setting in settled
    ]


def body_notes(wanted: Settled, settled: Settled) -> Iterator[str]:
    """What `settle_bodies` changed."""
    changed = [
        (named.type, after) for (named, before), (_, after) in zip(wanted, settled, strict=True) if before != after
    ]
    if changed:
        dynamic = sorted({kind for kind, after in changed if _is_integer(after)})
        weights = f", with int8 weights in {', '.join(dynamic)}" if dynamic else ""
        yield f"inside {_callers(settled)} activations are float32{weights}: LiteRT hands floats to loops and branches"


def check_bodies(settled: Settled, bodies: Collection[int], algorithm: str) -> None:
    """Raise ConversionError for an algorithm that would have to run through them step by step."""
    if bodies and algorithm == "gptq":
        raise ConversionError(
            f"algorithm 'gptq' cannot measure what goes on inside {_callers(settled)}: choose another algorithm"
        )


def notes(settled: Settled, options: TFLiteOptions) -> Iterator[str]:
    """Where the user's algorithm or block size could not be had."""
    integer = [(named, setting) for named, setting in settled if _is_integer(setting) and _kernel(named)]
    others = {named.type for named, setting in integer if setting.algorithm != options.algorithm}
    if others:
        yield f"{options.algorithm} has no form for the weights of {', '.join(sorted(others))}: min-max there"
    int4 = [(named, setting) for named, setting in integer if setting.precision == "int4-weights"]
    whole = [named.label for named, setting in int4 if setting.block_size != options.block_size]
    if whole:
        yield (
            f"no blocks of {options.block_size} in {', '.join(whole)}, a scale per output channel instead: blocks are "
            "for dense and embedding layers whose input size they divide"
        )


def grouped(settled: Settled) -> dict[tuple[str, Setting], list[str]]:
    """(operator type, setting) -> the scopes of those operators."""
    groups: defaultdict[tuple[str, Setting], list[str]] = defaultdict(list)
    for named, setting in settled:
        groups[named.type, setting].append(named.scope)
    return dict(groups)


def _precisions(operators: Sequence[NamedOperator], precision: str, options: TFLiteOptions, takes: Takes) -> list[str]:
    spared = _small_kernels(operators) if precision in DYNAMIC else frozenset[str]()
    chosen = ["fp32" if named.scope in spared else precision for named in operators]
    rules: list[tuple[str, str, str]] = [
        *(("ops", pattern, word) for pattern, word in options.ops.items()),
        *(("layers", pattern, word) for pattern, word in options.layers.items()),
        *(("keep_float", pattern, "fp32") for pattern in options.keep_float),
    ]
    for key, pattern, word in rules:
        names = [(named.type,) if key == "ops" else named.layers for named in operators]
        matching = [index for index, own in enumerate(names) if any(fnmatchcase(name, pattern) for name in own)]
        if not matching:
            raise ConversionError(_unmatched(key, pattern, {name for own in names for name in own}))
        able = [index for index in matching if word == "fp32" or takes(operators[index].type, Setting(word))]
        if not able:
            types = ", ".join(sorted({operators[index].type for index in matching}))
            raise ConversionError(f"{key} '{pattern}': there is no {word} for {types}; choose another precision")
        for index in able:
            chosen[index] = word
    return chosen


def _small_kernels(operators: Iterable[NamedOperator]) -> frozenset[str]:
    """Scopes of the operators whose kernels are so small that they stay float: the smallest ones, SPARED in all.

    First convolutions and depthwise ones, whose rounding the outputs feel most. TensorFlow's converter spares every
    kernel of fewer than 1024 numbers.
    """
    sizes = {named.scope: prod(shape) for named in operators if (shape := _kernel(named)) is not None}
    room, spared = SPARED * sum(sizes.values()), []
    for scope, size in sorted(sizes.items(), key=lambda item: item[1]):
        room -= size
        if size >= SMALL or room < 0:
            break
        spared.append(scope)
    return frozenset(spared)


def _unmatched(key: str, pattern: str, names: Iterable[str]) -> str:
    kind = "operator type of this model" if key == "ops" else "layer that has an operator of its own in the TFLite file"
    return f"{key} '{pattern}' matches no {kind}{did_you_mean(pattern, names)}"


def _setting(named: NamedOperator, precision: str, options: TFLiteOptions, takes: Takes) -> Setting:
    kernel = _kernel(named)
    if kernel is None or precision not in (*STATIC, *DYNAMIC):
        return Setting(precision)
    reach = DYNAMIC if options.algorithm in DYNAMIC_ALGORITHMS else (*STATIC, *DYNAMIC)
    fits = precision in reach and takes(named.type, Setting(precision, options.algorithm))
    setting = Setting(precision, options.algorithm if fits else "min-max")
    size = options.block_size
    if precision == "int4-weights" and size is not None and not kernel[-1] % size:
        blocks = replace(setting, block_size=size)
        setting = blocks if takes(named.type, blocks) else setting
    weight_only = replace(setting, weight_only=options.weight_only and precision in DYNAMIC)
    return weight_only if takes(named.type, weight_only) else setting


def _callers(settled: Settled) -> str:
    """The layers that have loops and branches."""
    return ", ".join(dict.fromkeys(named.label for named, _ in settled if named.type in CONTROL))


def _in_body(named: NamedOperator, setting: Setting, takes: Takes) -> Setting:
    if setting.precision not in STATIC:
        return setting
    dynamic = replace(setting, precision="dynamic-int8")
    return dynamic if _kernel(named) is not None and takes(named.type, dynamic) else Setting("fp32")


def _is_integer(setting: Setting) -> bool:
    return setting.precision in (*STATIC, *DYNAMIC)


def _kernel(named: NamedOperator) -> tuple[int, ...] | None:
    """The shape of the operator's weights."""
    kernel = kernel_of(named.operator)
    return None if kernel is None else kernel.shape
