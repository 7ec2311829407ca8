"""What a command on a device prints: kept whole, and told line by line as it comes."""

from __future__ import annotations

from edgekit.devices.transport import Heard


class Stream:
    """One of a command's two streams."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._kept = bytearray()
        self._told = 0  # bytes of it

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, piece: bytes) -> None:
        """Add what came, and tell the lines that are whole now."""
        end = piece.rfind(b"\n") + 1
        if end:
            end += len(self._kept)
        self._kept += piece
        self._tell(end)

    def end(self) -> str:
        """All of it. A last line without an end is told, too."""
        self._tell(len(self._kept))
        return self._kept.decode(errors="replace")

    def _tell(self, end: int) -> None:
        if end > self._told:
            text = self._kept[self._told : end].decode(errors="replace")
            self._told = end
            for line in text.removesuffix("\n").split("\n"):
                self._heard(line.removesuffix("\r"))


class Hearing:
    """Both of them."""

    def __init__(self, heard: Heard) -> None:
        self.stdout, self.stderr = Stream(heard), Stream(heard)
