from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import edgekit as package
from edgekit.cli import VERBS, main
from edgekit.cli import bench as bench_verb
from edgekit.errors import DeviceError

Run = Callable[..., Any]


def test_an_unknown_verb_is_refused(edgekit: Run) -> None:
    ended = edgekit("deplete")
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: argument VERB: invalid choice: 'deplete'")
    assert len(ended.stderr.splitlines()) == 1


def test_no_verb(edgekit: Run) -> None:
    assert edgekit().exit_code == 2


def test_a_wrong_argument_is_json_under_json(edgekit: Run) -> None:
    ended = edgekit("bench", "--json", "x.edgekit", "--runz", "3")
    assert ended.exit_code == 2
    assert ended.json["error"]["type"] == "ConfigError"
    assert "--runz" in ended.json["error"]["message"]


def test_options_are_not_abbreviated(edgekit: Run) -> None:
    assert edgekit("bench", "x.edgekit", "--jso").exit_code == 2


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"edgekit {package.__version__}\n"


def test_device_trouble_exits_3(edgekit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: object) -> int:
        raise DeviceError("the link\nwas cut")

    monkeypatch.setattr(bench_verb, "run", fail)
    ended = edgekit("bench", "x.edgekit")
    assert (ended.exit_code, ended.stderr) == (3, "error: the link was cut\n")
    ended = edgekit("bench", "x.edgekit", "--json")
    assert (ended.exit_code, ended.json) == (3, {"error": {"type": "DeviceError", "message": "the link was cut"}})
    assert ended.stderr == ""


def test_an_interrupt_exits_130(edgekit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_verb, "run", interrupt)
    ended = edgekit("bench", "x.edgekit")
    assert (ended.exit_code, ended.stderr) == (130, "error: interrupted\n")


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(args: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(bench_verb, "run", break_down)
    with pytest.raises(ZeroDivisionError):
        main(["bench", "x.edgekit"])


def test_a_verb_loads_no_other_verb_and_no_engine() -> None:
    code = (
        "import sys; from edgekit.cli import VERBS, main; main(['run', 'none', '--input', 'x', '-o', 'y']);"
        "print([verb for verb in VERBS if f'edgekit.cli.{verb}' in sys.modules],"
        "      {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_litert', 'pytest'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "['run'] set()\n"


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    argv = [sys.executable, "-m", "edgekit", "targets", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141
