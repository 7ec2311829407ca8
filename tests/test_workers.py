from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import workers
from edgekit.devices.zipapp import write_zipapp
from edgekit.errors import ConversionError, DataError, EdgekitError

HEAD = "import os, signal, sys, time\nfrom edgekit import workers\nfrom edgekit.errors import *\n"

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Run the body of a function `work(request)` as a worker."""

    def run(body: str, request: dict[str, object] | None = None, *, timeout_s: float = 60.0) -> dict[str, Any]:
        served = "if __name__ == '__main__':\n    workers.serve(work)\n"
        (tmp_path / "a_worker.py").write_text(f"{HEAD}def work(request):\n    {body}\n{served}")
        return workers.call(
            "a_worker",
            request or {},
            timeout_s=timeout_s,
            what="conversion to tflite",
            error=ConversionError,
            environment={"PYTHONPATH": str(tmp_path), "EDGEKIT_TEST": "there"},
        )

    return run


def message(call: Call, body: str, **kwargs: Any) -> str:
    with pytest.raises(ConversionError) as caught:
        call(body, **kwargs)
    return str(caught.value)


def test_the_reply_comes_back(call: Call) -> None:
    assert call("return {'sum': request['a'] + request['b']}", {"a": 2, "b": 3}) == {"sum": 5}


def test_the_environment_is_the_workers_alone(call: Call) -> None:
    assert call("return {'seen': os.environ['EDGEKIT_TEST']}") == {"seen": "there"}
    assert "EDGEKIT_TEST" not in os.environ


def test_a_chatty_worker_does_no_harm(call: Call) -> None:
    assert call("print('x' * 1_000_000); sys.stderr.write('y' * 1_000_000); return {}") == {}


def test_an_edgekit_error_keeps_its_type_and_message(call: Call) -> None:
    with pytest.raises(DataError, match=r"^calibration data: empty$"):
        call("raise DataError('calibration data: empty')")


def test_a_crash_is_named_by_its_signal(call: Call) -> None:
    said = message(call, "print('about to crash', flush=True); os.kill(os.getpid(), signal.SIGSEGV)")
    assert said == "conversion to tflite: the process died of SIGSEGV; its last words: about to crash"


def test_an_exception_shows_its_last_lines(call: Call) -> None:
    said = message(call, "raise ZeroDivisionError('by the worker')")
    assert said.startswith("conversion to tflite: the process exited with 1; its last words: ")
    assert said.endswith("ZeroDivisionError: by the worker")


def test_an_early_exit_is_no_reply(call: Call) -> None:
    assert message(call, "sys.exit(0)") == "conversion to tflite: the process exited with 0; its last words: none"


def test_only_the_last_lines_are_shown(call: Call) -> None:
    said = message(call, "print('\\n'.join(map(str, range(100)))); sys.exit(4)")
    assert said.endswith("last words: " + " | ".join(map(str, range(80, 100))))


def test_a_hang_ends_with_its_children(call: Call, tmp_path: Path) -> None:
    child = tmp_path / "child"
    body = (
        "import subprocess; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    )
    said = message(call, body, timeout_s=3.0)
    assert said == "conversion to tflite: not done after 3 s"
    assert _is_gone(int(child.read_text()))


def test_nothing_is_left_in_the_temporary_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    call("return {}")
    with pytest.raises(EdgekitError):
        call("sys.exit(1)")
    assert list(scratch.iterdir()) == []


def _is_gone(pid: int) -> bool:
    """A killed child may stay a zombie until its new parent looks."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_progress_comes_while_the_worker_works(tmp_path: Path) -> None:
    body = "for step in (1, 2, 2, 4):\n        workers.advance(step / 4); time.sleep(0.5)\n    return {}"
    served = "if __name__ == '__main__':\n    workers.serve(work)\n"
    (tmp_path / "a_worker.py").write_text(f"{HEAD}def work(request):\n    {body}\n{served}")
    told: list[float] = []
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    workers.call(
        "a_worker", {}, timeout_s=60, what="work", error=ConversionError, environment=environment, progress=told.append
    )
    assert told[-1] == 1.0
    assert told == sorted(set(told))


def test_a_worker_finds_an_edgekit_that_lies_in_a_zipapp(tmp_path: Path) -> None:
    write_zipapp(tmp_path / "runtime.pyz")
    served = "if __name__ == '__main__':\n    workers.serve(lambda request: {'from': workers.__file__})\n"
    (tmp_path / "a_worker.py").write_text(f"from edgekit import workers\n{served}")
    code = (
        "import sys; sys.path[0] = 'runtime.pyz'\n"
        "from edgekit import workers\nfrom edgekit.errors import EdgekitError\n"
        "print(workers.call('a_worker', {}, timeout_s=60, what='it', error=EdgekitError)['from'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "runtime.pyz" in ended.stdout
