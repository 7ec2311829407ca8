"""Run on a device, pushed there as one file: wheels unpacked under their hashes, so that PYTHONPATH can name them.

    python3 unpacker.py WHEEL…       each a path FOLDER/SHA256/NAME.whl; it is unpacked to wheels/SHA256

A folder of that name is whole: a wheel is unpacked beside it, brought to the disk, and renamed. It prints JSON:
the folders in the wheels' order. The standard library alone, Python 3.10 and newer.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

PLACE = "wheels"


def main(*wheels: str) -> None:
    """Unpack those that are not there yet."""
    folders = [unpack(Path(wheel)) for wheel in wheels]
    sys.stdout.write(json.dumps({"folders": folders}) + "\n")


def unpack(wheel: Path) -> str:
    """Returns the folder to import from."""
    folder = Path(PLACE, wheel.parent.name)
    if not folder.exists():
        scratch = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        for inner in [*scratch.glob("*.data/purelib"), *scratch.glob("*.data/platlib")]:
            shutil.copytree(inner, scratch, dirs_exist_ok=True)
        os.sync()  # or a power cut leaves the name without the files
        if folder.exists():  # another session was quicker
            shutil.rmtree(scratch)
        else:
            scratch.replace(folder)
    return str(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
