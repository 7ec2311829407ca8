"""What a verb prints on stdout: one JSON object under --json, else text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping


def emit(args: argparse.Namespace, result: Mapping[str, object], text: str) -> None:
    """Print `result` as one JSON object when --json was given, else `text`."""
    print(json.dumps(result, allow_nan=False) if args.json else text)


def progress(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up notes off the user's terminal; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
