"""What a build is told of preprocessing, held against the model and the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgekit.errors import ConfigError, did_you_mean
from edgekit.manifest import Input
from edgekit.metadata import check_pixels
from edgekit.preprocessing.declared import Picture, Preprocessing, check_fits
from edgekit.strict import parse

Declared = Mapping[str, Preprocessing]  # by Keras name
_NARROW = 0.05  # of what pixels from 0 to 255 would span: data of 0 to 1 is 0.004 of it


def declared_preprocessing(given: Mapping[str, Preprocessing | Mapping[str, object]] | None) -> Declared:
    """Values, or tables as in `[preprocessing.NAME]`, as values. Raises ConfigError."""
    return {
        name: item if isinstance(item, Preprocessing) else parse(Preprocessing, item, where=f"preprocessing.{name}")
        for name, item in (given or {}).items()
    }


def check_preprocessing(declared: Iterable[str], inputs: Iterable[Input]) -> None:
    """Raise ConfigError on an unknown input, or what cannot give what the model takes or the calibration data holds."""
    known = {item.name: item for item in inputs}
    for name in declared:
        if name not in known:
            raise ConfigError(f"[preprocessing.{name}]: the model has no such input{did_you_mean(name, known)}")
    for item in known.values():
        if item.preprocessing is not None:
            where = f"[preprocessing.{item.name}]"
            check_fits(item.preprocessing, item.spec, where=where)
            if item.preprocessing.picture is not None and item.range is not None:
                _check_data(item.preprocessing.picture, item.range, where)


def _check_data(picture: Picture, measured: tuple[float, float], where: str) -> None:
    mean, std = picture.mean or (0.0,), picture.std or (1.0,)
    check_pixels(mean, std, measured, where)
    span = 255 / min(map(abs, std))
    if measured[1] - measured[0] < _NARROW * span:
        raise ConfigError(
            f"{where}: pixels from 0 to 255 would span {span:.4g}, but the calibration data holds {measured[0]:.4g} to "
            f"{measured[1]:.4g}: give the mean and std that the data was normalized with (mean = [0], std = [255] for "
            "pixels divided by 255)"
        )
