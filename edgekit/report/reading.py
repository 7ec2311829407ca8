"""`report.json` read back, strictly: it comes from a folder that anybody may have changed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NoReturn, cast

from edgekit.errors import ConfigError
from edgekit.report.facts import FORMAT, FORMAT_VERSION, BuildReport
from edgekit.strict import parse

JSON_NAME = "report.json"


def read_report(path: Path) -> BuildReport:
    """The report in a build's folder, or in the file itself. Raises ConfigError."""
    file = path / JSON_NAME if path.is_dir() else path
    parsed = read_json(file, missing="edgekit build -o DIR makes one")
    kind, version = (parsed.get(key) if isinstance(parsed, dict) else None for key in ("format", "format_version"))
    if not isinstance(parsed, dict) or kind != FORMAT:
        raise ConfigError(f"{file}: format is {kind!r}, expected '{FORMAT}': give the folder of a build")
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{file}: format_version is {version!r}, this edgekit reads {FORMAT_VERSION}; take the edgekit of it, "
            "or build again"
        )
    facts = {key: value for key, value in parsed.items() if key not in ("format", "format_version", "files")}
    return parse(BuildReport, facts, where=str(file))


def read_json(file: Path, *, missing: str) -> object:
    """Parse a file whose numbers are all finite. Raises ConfigError; `missing` says how to get the file."""
    try:
        parsed = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_finite)
        json.dumps(parsed, ensure_ascii=False).encode()  # half a character, which JSON can escape, cannot be written
    except FileNotFoundError as problem:
        raise ConfigError(f"no file {file}: {missing}") from problem
    except OSError as problem:
        raise ConfigError(f"cannot read {file}: {problem.strerror}") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{file} is not JSON that edgekit wrote ({problem}); {missing}") from problem
    return cast(object, parsed)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word} is too large")
    return value
