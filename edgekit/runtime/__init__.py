"""The device side: a bundle becomes a session. Needs numpy and one engine package."""

from edgekit.runtime.choosing import Choice, Rejected
from edgekit.runtime.opening import open_bundle, open_file, open_session
from edgekit.runtime.session import Session
from edgekit.runtime.timing import Timing

__all__ = ["Choice", "Rejected", "Session", "Timing", "open_bundle", "open_file", "open_session"]
