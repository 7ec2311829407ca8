from __future__ import annotations

from edgekit.wording import counted, said

KERAS = """Exception encountered when calling Add.call().

\x1b[1mCannot broadcast.\x1b[0m

Arguments received by Add.call():
  • inputs=['<KerasTensor>']"""
AUTOGRAPH = """in user code:

    File "exporting.py", line 46, in serve  *
        outputs = model(inputs)

    ValueError: Exception encountered when calling Breaks.call().

    no such thing
"""


def test_numbers_and_their_nouns() -> None:
    assert [counted(number, "kernel") for number in (0, 1, 1000)] == ["0 kernels", "1 kernel", "1,000 kernels"]


def test_what_keras_and_tensorflow_say_fits_in_a_line() -> None:
    assert said(ValueError(KERAS)) == "Exception encountered when calling Add.call(). Cannot broadcast."
    assert said(ValueError(AUTOGRAPH)) == "no such thing"
    assert said(ValueError("long " * 100)) == ("long " * 40)
    assert said(KeyError()) == "KeyError"
