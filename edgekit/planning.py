"""What a build makes: each (format, precision) once, with the targets that take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.conversion import Converter, GpuConverter, check_precision, find_converter
from edgekit.engine_recipes import Recipes, check_targets, shared_recipe
from edgekit.errors import ConfigError
from edgekit.profiles import AUTO, DeviceProfile, load_target, target_names
from edgekit.tensorrt.recipe import Recipe

Targets = Sequence[str] | Mapping[str, Sequence[str] | str | None]  # names, or names with their precisions


@dataclass(frozen=True)
class PlannedVariant:
    """One variant to make."""

    format: str
    precision: str
    targets: tuple[str, ...]
    checkers: tuple[str, ...]  # of all its targets
    candidate: bool = False  # no target asked for it by name: what cannot be made is left out
    tensorrt: Recipe | None = None  # how its targets build their engines from it

    @property
    def id(self) -> str:
        """`tflite-int8`."""
        return f"{self.format}-{self.precision}"


@dataclass(frozen=True)
class Plan:
    """All variants of a build, and which of them each target runs first."""

    variants: tuple[PlannedVariant, ...]
    preferred: Mapping[str, str]  # target -> variant id; an automatic target has none before its candidates are timed
    automatic: tuple[str, ...] = ()  # the targets with precision "auto"

    @property
    def formats(self) -> tuple[str, ...]:
        """Each format once, in order of first use."""
        return tuple(dict.fromkeys(variant.format for variant in self.variants))

    @property
    def needs_calibration(self) -> bool:
        """True when a variant computes in integers."""
        return any("int8" in variant.precision or "int16" in variant.precision for variant in self.variants)


def plan(targets: Targets, given_format: str | None = None, *, recipes: Recipes | None = None) -> Plan:
    """Resolve target names and precisions before any work starts.

    `given_format` is that of a converted file that the build begins from, which becomes no other, but for engines that
    are built from it. `recipes` stand in for what targets' profiles say of TensorRT. Raises ConfigError, or
    ConversionError.
    """
    if isinstance(targets, str):
        raise ConfigError(f"targets is '{targets}', expected a list of names: [\"{targets}\"]")
    if not targets:
        raise ConfigError("no targets; name at least one, for example local")
    wanted = targets if isinstance(targets, Mapping) else dict.fromkeys(targets)
    given = recipes or {}
    check_targets(given, list(wanted))
    takers: dict[tuple[str, str], list[DeviceProfile]] = {}
    preferred, automatic = {}, []
    for name, precisions in wanted.items():
        profile = load_target(name)
        chosen = _precisions(profile, precisions)
        if given_format is not None:
            profile = _narrowed(profile, given_format)
        if chosen == (AUTO,):
            automatic.append(name)
            chosen = profile.precisions
        else:
            preferred[name] = f"{_makers(profile, chosen[0])[0]}-{chosen[0]}"
        for precision in dict.fromkeys(chosen):
            for format_name in _makers(profile, precision):
                takers.setdefault((format_name, precision), []).append(profile)
    variants = tuple(_planned(*key, profiles, automatic, given) for key, profiles in takers.items())
    return Plan(variants, preferred, tuple(automatic))


def _precisions(profile: DeviceProfile, wanted: Sequence[str] | str | None) -> tuple[str, ...]:
    """What a target is to get, checked; `("auto",)` alone, or names of precisions."""
    chosen = (wanted,) if isinstance(wanted, str) else profile.default_precisions if wanted is None else tuple(wanted)
    if not chosen:
        raise ConfigError(f"target '{profile.name}': precision is empty; it takes {', '.join(profile.precisions)}")
    if AUTO in chosen and len(chosen) > 1:
        raise ConfigError(f"target '{profile.name}': precision \"auto\" tries every one; leave out the others")
    for precision in chosen:
        if precision != AUTO:
            profile.check_precision(precision)
    return chosen


def _narrowed(profile: DeviceProfile, given_format: str) -> DeviceProfile:
    """A target that is to take what a file of one format becomes, in the precisions that it has."""
    formats = _made_from(given_format, profile)
    if not formats:
        others = ", ".join(name for name in target_names() if _made_from(given_format, load_target(name)))
        raise ConfigError(
            f"target '{profile.name}' takes {' and '.join(profile.formats)}, which no .{given_format} file becomes: "
            f"bring the Keras model, or choose a target that takes it ({others})"
        )
    made = find_converter(given_format).precisions
    precisions = tuple(name for name in profile.precisions if name in made)
    return replace(profile, formats=formats, precisions=precisions)


def _made_from(given_format: str, profile: DeviceProfile) -> tuple[str, ...]:
    """The profile's formats that begin from a file of this one: itself, and engines that are built from it."""
    converters: list[Converter] = [find_converter(name) for name in profile.formats]
    return tuple(
        converter.format
        for converter in converters
        if given_format == (converter.built_from if isinstance(converter, GpuConverter) else converter.format)
    )


def _makers(profile: DeviceProfile, precision: str) -> list[str]:
    """The profile's formats that have this precision."""
    converters: list[Converter] = [find_converter(name) for name in profile.formats]
    makers = [converter.format for converter in converters if precision in converter.precisions]
    if not makers:
        check_precision(converters[0], precision)
    return makers


def _planned(
    format_name: str, precision: str, profiles: Sequence[DeviceProfile], automatic: Sequence[str], given: Recipes
) -> PlannedVariant:
    checkers = dict.fromkeys(checker for profile in profiles for checker in profile.checkers)
    names = tuple(profile.name for profile in profiles)
    planned = PlannedVariant(format_name, precision, names, tuple(checkers), candidate=set(names) <= set(automatic))
    return replace(planned, tensorrt=shared_recipe(planned.id, format_name, profiles, given))
