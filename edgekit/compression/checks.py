"""How a step checks its own values: one line that says what was got and what would be right."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import ConfigError, did_you_mean

SKIP = "skip"  # instead of settings for a layer


def number(name: str, value: object) -> None:
    """Raise ConfigError unless the value is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {value!r}, expected a number")


def fraction(name: str, value: float, *, zero: bool = False, one: bool = False) -> None:
    """Raise ConfigError unless 0 < value < 1; `zero` and `one` let the ends in."""
    number(name, value)
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        hint = f"; for {value:g} % write {value / 100:g}" if 5 <= value <= 100 else ""
        bounds = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        raise ConfigError(f"{name} is a fraction in {bounds}, got {value:g}{hint}")


def positive(name: str, value: float) -> None:
    """Raise ConfigError unless value > 0."""
    number(name, value)
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, got {value:g}")


def whole(name: str, value: float, *, least: int) -> None:
    """Raise ConfigError unless the value is a whole number, `least` or more."""
    number(name, value)
    if value < least or not float(value).is_integer():
        raise ConfigError(f"{name} must be a whole number, {least} or more, got {value:g}")


def choice(name: str, value: object, known: tuple[object, ...]) -> None:
    """Raise ConfigError unless the value is one of the known ones."""
    if value not in known:
        raise ConfigError(f"{name} is '{value}'{did_you_mean(str(value), map(str, known))}")


def one_of(step: str, given: Mapping[str, object]) -> None:
    """Raise ConfigError unless exactly one of the alternatives is not None."""
    names = list(given)
    if sum(value is not None for value in given.values()) != 1:
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        raise ConfigError(f"{step} needs exactly one of {listed}")


def training(step: str, epochs: int, learning_rate: float, batch_size: int, *, least_epochs: int = 0) -> None:
    """Check what every step that trains has."""
    whole(f"{step}.epochs", epochs, least=least_epochs)
    positive(f"{step}.learning_rate", learning_rate)
    whole(f"{step}.batch_size", batch_size, least=1)


def layer_settings(step: str, layers: Mapping[str, object], allowed: tuple[str, ...]) -> None:
    """Check the shape of per-layer settings: pattern -> "skip" or a table of some of the step's own settings."""
    if not isinstance(layers, Mapping):
        raise ConfigError(
            f'{step}.layers is {layers!r}, expected a table of name patterns, such as {{"block_*": "skip"}}'
        )
    for pattern, settings in layers.items():
        where = f"{step}.layers['{pattern}']"
        if settings == SKIP:
            continue
        if not isinstance(settings, Mapping):
            raise ConfigError(f'{where} is {settings!r}, expected "{SKIP}" or a table of {", ".join(allowed)}')
        for key in settings:
            if key not in allowed:
                raise ConfigError(f"{where}: unknown setting '{key}'{did_you_mean(str(key), allowed)}")
