"""The state that recurrent layers keep from call to call, and how a converted file has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any  # Any: Keras models, layers and variables, which have no types

from edgekit.conversion import STATE_FORMS, StatePort
from edgekit.errors import ConfigError, ModelError, did_you_mean
from edgekit.kerases import import_keras
from edgekit.tensors import TensorSpec

_ROLES = {"LSTM": ("h", "c"), "GRU": ("h",), "SimpleRNN": ("h",)}
_WAYS_OUT = (
    "--state variables (the file keeps it: a call goes on where the last one stopped) or --state inputs-outputs (the "
    "caller hands it on)"
)

NOT_SEARCHED = (
    "a search compresses and trains models on samples that do not depend on each other: give the model without state, "
    "and build the one with state from the result's weights"
)
NOT_COMPARED = "what is compared are samples that do not depend on each other: give models without state"


@dataclass(frozen=True)
class State:
    """One tensor that a layer keeps."""

    name: str  # "lstm_h": of the layer and the tensor's role
    layer: str
    variable: Any  # the Keras variable

    @property
    def taken(self) -> TensorSpec:
        """It as an input of the model."""
        return self._spec("in")

    @property
    def given(self) -> TensorSpec:
        """It as an output of the model."""
        return self._spec("out")

    @property
    def port(self) -> StatePort:
        """Both."""
        return StatePort(self.taken, self.given, tuple(self.variable.shape))

    def _spec(self, side: str) -> TensorSpec:
        return TensorSpec(f"{self.name}_{side}", (None, *self.variable.shape[1:]), str(self.variable.dtype))


def states_of(model: Any) -> tuple[State, ...]:
    """Every state of the model's recurrent layers, nested models and wrappers included."""
    found = []
    for layer in stateful_layers(model):
        variables = import_keras().tree.flatten(layer.states)
        numbered = [f"state{number}" for number in range(len(variables))]
        roles = _ROLES.get(type(layer).__name__, numbered)
        found += [State(f"{layer.name}_{role}", layer.name, it) for role, it in zip(roles, variables, strict=True)]
    return tuple(found)


def stateful_layers(model: Any) -> list[Any]:
    """The recurrent layers with `stateful=True`."""
    recurrent = import_keras().layers.RNN
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if isinstance(layer, recurrent) and layer.stateful]


def chosen_states(model: Any, state: str | None) -> tuple[State, ...]:
    """The states, checked against the user's choice of their form. Raises ConfigError and ModelError."""
    found = states_of(model)
    if state is not None and state not in STATE_FORMS:
        raise ConfigError(f"state is '{state}'{did_you_mean(state, STATE_FORMS)}")
    if state is not None and not found:
        raise ModelError(f"'{model.name}' keeps no state: leave --state {state} out, or give a layer stateful=True")
    if state is None and found:
        raise ModelError(f"{_keeps(model, found)}: choose {_WAYS_OUT}")
    for kept in found:
        if kept.variable.shape[0] != 1:
            raise ModelError(
                f"the state of '{kept.layer}' is for a batch of {kept.variable.shape[0]}, expected 1: build the model "
                "again with batch_size=1, and load the weights into it"
            )
    return found


def check_stateless(model: Any, why: str) -> None:
    """Raise ModelError that says `why` when samples depend on those before them."""
    found = states_of(model)
    if found:
        raise ModelError(f"{_keeps(model, found)}, and {why}")


@contextmanager
def at_start(states: Sequence[State]) -> Iterator[None]:
    """Zero for every state, as in a model that has not been called; what they were comes back afterwards."""
    before = [state.variable.numpy() for state in states]
    for state, value in zip(states, before, strict=True):
        state.variable.assign(value * 0)
    try:
        yield
    finally:
        for state, value in zip(states, before, strict=True):
            state.variable.assign(value)


def _keeps(model: Any, found: Sequence[State]) -> str:
    layers = ", ".join(dict.fromkeys(f"'{state.layer}'" for state in found))
    return f"'{model.name}' keeps state from call to call ({layers})"
