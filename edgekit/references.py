"""`module:function`: the user's own code, whose failures are the user's to mend and show as one line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any  # Any: whatever the user's function takes and gives

from edgekit.errors import EdgekitError


def import_function(reference: str, *, what: str, error: type[EdgekitError]) -> Callable[..., Any]:
    """The function, wrapped so that any exception in it becomes `error`; `what` names its use in messages."""
    module, _, name = reference.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except AttributeError as problem:
        raise error(f"{what}: cannot import '{reference}' ({problem}); name a function of the module") from problem
    except ImportError as problem:
        raise error(
            f"{what}: cannot import '{reference}' ({problem}); put the module beside the project file or on PYTHONPATH"
        ) from problem

    def guarded(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as problem:  # the user's code may raise anything
            raise error(f"{what}: '{reference}' failed with {type(problem).__name__}: {problem}") from problem

    return guarded
