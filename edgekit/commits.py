"""Which commit of the user's repository a figure belongs to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_NAMED = ("EDGEKIT_COMMIT", "GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")  # ours, GitHub's, GitLab's, Jenkins's
_TIMEOUT_S = 10.0


def current_commit(folder: Path | None = None) -> str | None:
    """What the CI says, else git of `folder` (default: the current one), with -dirty when files changed; or None."""
    named = next((os.environ[name] for name in _NAMED if os.environ.get(name)), None)
    if named is not None:
        return named
    argv = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
