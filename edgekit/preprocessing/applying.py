"""Raw pixels and samples to a model's input, by what is declared of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from edgekit.errors import DataError, did_you_mean
from edgekit.preprocessing import pictures, sounds
from edgekit.preprocessing.declared import Preprocessing
from edgekit.tensors import Array, TensorSpec


class DeclaredInput(Protocol):
    """A manifest's input, which is defined above this package."""

    @property
    def spec(self) -> TensorSpec: ...  # noqa: D102
    @property
    def preprocessing(self) -> Preprocessing | None: ...  # noqa: D102


def preprocess_all(raw: Mapping[str, Array], inputs: Sequence[DeclaredInput], *, where: str) -> dict[str, Array]:
    """Each array by the name of its input, made ready where a preprocessing is declared, else as it is.

    Raises DataError on an unknown name, where no input of the model has a preprocessing, and as `preprocess` does.
    """
    known = {item.spec.name: item for item in inputs}
    if not any(item.preprocessing for item in inputs):
        raise DataError(
            f"{where}: no preprocessing is declared, so raw pixels or samples cannot be taken: give the model's own "
            "arrays, or declare [preprocessing] in the project file and build again"
        )
    for name in raw:
        if name not in known:
            raise DataError(f"{where}: unknown input '{name}'{did_you_mean(name, known)}")
    return {name: _ready(np.asarray(array), known[name]) for name, array in raw.items()}


def _ready(raw: Array, item: DeclaredInput) -> Array:
    return raw if item.preprocessing is None else preprocess(raw, item.preprocessing, item.spec)


def preprocess(raw: Array, declared: Preprocessing, spec: TensorSpec) -> Array:
    """Pixels or samples, one or a batch of them -> the input `spec`, with the batch first.

    Where the input takes integers, results are rounded half to even and cut to what its dtype holds. Raises DataError
    when `raw` is neither, or what comes out is not what the model takes.
    """
    where = f"preprocessing of '{spec.name}'"
    if declared.picture is not None:
        prepared = pictures.prepare(raw, declared.picture, where=where)
    else:
        assert declared.audio is not None
        prepared = sounds.prepare(raw, declared.audio, where=where)
        if len(spec.shape) == prepared.ndim + 1:
            prepared = prepared[..., None]  # one channel
    cast = _cast(prepared, np.dtype(spec.dtype))
    spec.check(cast, where=where)
    return cast


def _cast(prepared: Array, dtype: np.dtype[np.generic]) -> Array:
    if dtype.kind not in "iu":
        return prepared.astype(dtype, copy=False)
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return np.clip(np.rint(prepared), limits.min, limits.max).astype(dtype)
