"""`edgekit serve BUNDLE --port N`: a model server that speaks KServe's v2 protocol over HTTP."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.cli.output import add_require_signature, emit, progress, trust_of
from edgekit.errors import EngineError

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit serve`."""
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="one model each, or several versions")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1: this machine alone")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default 8000; 0 for any free one")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="holds what clients must send as bearer token")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="sessions of each model, default 1")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each session, default 1")
    parser.add_argument("--queue", type=int, default=16, metavar="N", help="requests that wait, default 16; then 503")
    parser.add_argument("--max-body-mib", type=int, default=16, metavar="N", help="of a request, default 16; then 413")
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundles (default: the best that runs here)")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as problem:
        raise EngineError(f'{problem.name} is not installed: pip install "edgekit[serve]"') from problem
    from edgekit.serving.app import Limits
    from edgekit.serving.guard import read_token
    from edgekit.serving.models import Capacity, Models, opened_models
    from edgekit.serving.server import Address, serve

    token = None if args.token_file is None else read_token(args.token_file)
    address, limits = Address(args.host, args.port, token), Limits(args.max_body_mib * _MIB)
    capacity = Capacity(args.workers, args.threads, args.queue)

    def ready(url: str, models: Models) -> None:
        served = [
            {"name": item.manifest.name, "version": item.manifest.version, "choice": dataclasses.asdict(item.choice)}
            for item in models.all
        ]
        lines = [
            f"{url}/v2/models/{item.manifest.name}/versions/{item.manifest.version}: {item.choice.variant} on "
            f"{item.choice.package} {item.choice.engine_version}, {item.choice.accelerator}"
            for item in models.all
        ]
        emit(args, {"url": url, "models": served}, "\n".join(lines))

    with opened_models(args.bundles, capacity, variant=args.variant, **trust_of(args)) as models:
        serve(models, address, limits, lambda url: ready(url, models))
    progress("stopped")
    return 0
