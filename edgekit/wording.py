"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """`1 kernel`, `2 kernels`, `1,000 kernels`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
