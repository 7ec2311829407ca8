"""What a device does not forgive, as far as it can be brought about without root; then the bundle still runs there."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.devices import DeployedBundle
from edgekit.devices.conditions import SEVERE, read_condition
from edgekit.devices.deploy import ZipappBundle
from edgekit.devices.pushing import push_by_content, remove
from edgekit.devices.replies import read_reply
from edgekit.devices.transport import Cuttable, checked
from edgekit.errors import DeviceError, EdgekitError, EngineError, OutputError
from edgekit.runtime.arrays import write_npz
from edgekit.runtime.golden import read_golden

pytestmark = pytest.mark.faults

TIMEOUT_S = 300.0
FILE_BYTES = 2048  # what a full disk still takes: the answer itself
MEMORY_BYTES = 64 << 20  # not enough for numpy and an engine
OUTPUT = "fault-output.npz"

# Each runs as `python -c CODE ARGUMENT…` on the device.
LIMITED = """
import os, resource, sys
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[2])))
os.execvp(sys.argv[3], sys.argv[3:])
"""
NAMED = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
IS_ALIVE = """
import os, sys
try:
    os.kill(int(open(sys.argv[1]).read()), 0)
except ProcessLookupError:
    print("false")
else:
    print("true")
"""
LEFT = "import json, os, sys; print(json.dumps([name for name in os.listdir('.') if sys.argv[1] in name]))"


@pytest.fixture(scope="module")
def sound(edgekit_deployed: DeployedBundle) -> DeployedBundle:
    """There must be something to harm; what is wrong without any fault is other tests' to fail."""
    try:
        (result,) = edgekit_deployed.golden().results
    except EngineError as problem:
        pytest.skip(f"nothing to harm: {problem}")
    if not result.passed:
        pytest.skip(f"nothing to harm: {result.variant} is off its golden outputs already")
    return edgekit_deployed


@pytest.fixture(autouse=True)
def unharmed(sound: DeployedBundle) -> Iterator[None]:
    """After each fault the best variant there is within its tolerance."""
    yield
    (result,) = sound.golden().results
    assert result.passed, f"after the fault: largest error {result.max_error}, limit {result.limit}"


@pytest.fixture
def in_python(edgekit_deployed: DeployedBundle) -> ZipappBundle:
    """The bundle where Python runs it, whose processes these tests start in ways of their own."""
    if not isinstance(edgekit_deployed, ZipappBundle):
        pytest.skip(f"{edgekit_deployed.device.url} has no Python to be killed or starved")
    return edgekit_deployed


def test_killed(in_python: ZipappBundle) -> None:
    """A run that is ended at its deadline is gone with all that it started."""
    device, python = in_python.device, in_python.python
    endless = [python, in_python.runtime, "bench", in_python.remote, "--runs=1000000000"]
    deadline_s = 3 + 10 * checked(device, [python, "-c", "pass"], timeout_s=TIMEOUT_S).elapsed_s  # to have begun in
    with pytest.raises(DeviceError, match="not done"):
        device.run([python, "-c", NAMED, "fault.pid", *endless], timeout_s=deadline_s)
    end = time.monotonic() + TIMEOUT_S
    while json.loads(checked(device, [python, "-c", IS_ALIVE, "fault.pid"], timeout_s=TIMEOUT_S).stdout):
        assert time.monotonic() < end, "the process runs on"
        time.sleep(0.2)
    remove(device, "fault.pid")


def test_out_of_space(in_python: ZipappBundle, edgekit_bundle: Bundle, tmp_path: Path) -> None:
    """A file that does not fit is an error in words, and nothing half-written stays: a limit of the process's files."""
    device, python, sample = in_python.device, in_python.python, tmp_path / "inputs.npz"
    golden = read_golden(edgekit_bundle)
    times = 1 + 4 * FILE_BYTES // sum(array.nbytes for array in golden.outputs.values())
    write_npz(sample, {name: np.repeat(array, times, axis=0) for name, array in golden.inputs.items()})
    remote = push_by_content(device, sample)
    run = [python, in_python.runtime, "run", in_python.remote]
    limited = [python, "-c", LIMITED, "RLIMIT_FSIZE", str(FILE_BYTES)]
    result = device.run([*limited, *run, "--input", remote, "--output", OUTPUT], timeout_s=TIMEOUT_S)
    with pytest.raises(OutputError, match="cannot write"):
        read_reply(result, device.url)
    left = checked(device, [python, "-c", LEFT, OUTPUT], timeout_s=TIMEOUT_S)
    remove(device, remote)
    assert json.loads(left.stdout) == []


def test_out_of_memory(in_python: ZipappBundle) -> None:
    """Without memory the run ends, and says so by its exit code. (A limit of the process's address space.)"""
    device, python = in_python.device, in_python.python
    run = [python, in_python.runtime, "golden", in_python.remote]
    limits = ["RLIMIT_AS", str(MEMORY_BYTES)]
    result = device.run([python, "-c", LIMITED, *limits, *run], timeout_s=TIMEOUT_S)
    assert result.exit_code != 0
    with pytest.raises(EdgekitError):  # never an answer
        read_reply(result, device.url)


def test_unplugged_in_mid_run(in_python: ZipappBundle) -> None:
    """A command goes on when the link is cut, and is heard to its end."""
    device = in_python.device
    if not isinstance(device, Cuttable):
        pytest.skip(f"{device.url} has no link that can be cut from here")
    cut = threading.Timer(1.0, device.drop_link)
    cut.start()
    code = "import time; print('begun', flush=True); time.sleep(3); print('done')"
    result = device.run([in_python.python, "-c", code], timeout_s=TIMEOUT_S)
    cut.join()
    assert result.stdout.split() == ["begun", "done"]


def test_throttled(edgekit_deployed: DeployedBundle) -> None:
    """A device that is throttled says so, and still answers."""
    status = read_condition(edgekit_deployed.device).thermal_status
    if status is None or status < SEVERE:
        pytest.skip(f"it is not throttled now (thermal status {status}), and cannot be heated without root")
    assert edgekit_deployed.bench(runs=50).results
