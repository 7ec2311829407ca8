"""The error tree, and how a message suggests the right word.

A message says what, where, got, expected and what to do, in one line. An `EdgekitError` is the user's
mistake or the environment's and prints as one line; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class EdgekitError(Exception):
    """Something the user can put right; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class ModelError(EdgekitError):
    """A model file that cannot be read, or a model with a layer that a step or a converter cannot take."""


class DataError(EdgekitError):
    """Input data that does not fit the model: a missing name, a wrong shape or dtype, NaN, a label out of range."""


class ConfigError(EdgekitError):
    """A project file, a profile or an argument with an unknown key, a wrong type or a value out of range."""


class ConversionError(EdgekitError):
    """A conversion that failed, crashed, ran out of time, or was asked for something its format lacks."""


class BuildError(EdgekitError):
    """TensorRT built no engine: it refused the model or an option, crashed, ran out of time, or is not installed."""

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons  # what TensorRT itself said


class BundleError(EdgekitError):
    """A bundle that is not one, was changed, or needs another version of edgekit."""


class EngineError(EdgekitError):
    """No engine is installed for a variant, or the engine refused its model."""


class OutputError(EdgekitError):
    """The output cannot be written: no permission, no space, not a folder."""


class DeviceError(EdgekitError):
    """The device, or the way to it, failed."""

    exit_code = 3


class LinkError(DeviceError):
    """The connection broke; the one fault that is tried again."""


class OfflineError(DeviceError):
    """Nothing answers at that address."""


class UnauthorizedError(DeviceError):
    """The device does not let us in."""


class HostKeyError(DeviceError):
    """Another machine than the known one answers, or one that is not known."""


class DeviceTimeoutError(DeviceError):
    """A command, or the device, was not done in time."""


class DeviceCrashError(DeviceError):
    """A program on the device ended without an answer; the device itself goes on."""


class DeviceBusyError(DeviceError):
    """Another session has the device, and did not give it back in time."""


class DeviceFullError(DeviceError):
    """The device has no space left."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'int8'?"` when a known word is close, else the list of what is known."""
    import difflib  # on the way to an error alone

    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
