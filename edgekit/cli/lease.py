"""`edgekit lease --device URL -- COMMAND`: a device that is one's own while a command runs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack

from edgekit.cli.output import emit, progress
from edgekit.devices.leases import RENEW_S, TOKENS, WAIT_S, Lease, take_lease
from edgekit.devices.opening import opened_device
from edgekit.errors import ConfigError

DEVICE = "EDGEKIT_DEVICE"
_BY_SIGNAL = 128  # as a shell says it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit lease`."""
    parser.add_argument(
        "--device", action="append", required=True, metavar="URL", help="repeatable: the first that is free is taken"
    )
    parser.add_argument("--wait", type=float, default=WAIT_S, metavar="S", help="until one must be free (600)")
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help=f"after --; it finds the device's URL in ${DEVICE}"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code, or 3 when no device is free in time."""
    deadline = time.monotonic() + args.wait
    lease = take_lease(args.device, wait_s=args.wait)
    with ExitStack() as stack:
        stack.callback(lease.release)
        device = stack.enter_context(opened_device(lease.url))
        lease.extend_to(device, deadline=deadline)
        stack.callback(lease.release)  # before the connection ends
        progress(f"{lease.url} is ours")
        exit_code = _run(args, lease)
    emit(args, {"device": lease.url, "exit_code": exit_code}, f"{lease.url} is free; exit code {exit_code}")
    return exit_code


def _run(args: argparse.Namespace, lease: Lease) -> int:
    tokens = [token for token in (os.environ.get(TOKENS), lease.token) if token]
    environment = {**os.environ, TOKENS: ",".join(tokens), DEVICE: lease.url}
    try:
        process = subprocess.Popen(args.command, env=environment, stdout=sys.stderr.fileno() if args.json else None)
    except OSError as problem:
        raise ConfigError(f"cannot start {args.command[0]}: {problem.strerror or problem}") from problem
    with process:
        while True:
            try:
                code = process.wait(RENEW_S)
            except subprocess.TimeoutExpired:
                lease.renew()
            else:
                return code if code >= 0 else _BY_SIGNAL - code
