"""`edgekit run BUNDLE --prompt TEXT`: what a language model makes of it, as it comes."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from time import perf_counter

from edgekit.bundle import Bundle
from edgekit.cli.output import emit, progress, trust_of
from edgekit.cli.progress import show
from edgekit.errors import ConfigError
from edgekit.runtime import Choice, open_session
from edgekit.runtime.golden_texts import need_language
from edgekit.runtime.sampling import Sampling
from edgekit.tokenizing import Tokenizer
from edgekit.trust import check_signature

_SAMPLING = ("temperature", "top_k", "top_p", "seed")
_OWN = ("max_tokens", *_SAMPLING)  # flags that mean nothing without --prompt
_ARRAYS = ("input", "output", "top")  # flags that mean nothing with it


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare what goes with a prompt."""
    group.add_argument("--prompt", metavar="TEXT", help="of a language model: print what follows, as it comes")
    group.add_argument("--max-tokens", type=int, metavar="N", help="at most (default: until the context is full)")
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="0 (default): always the most likely token",
    )
    group.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens")
    group.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest that have probability P together")
    group.add_argument("--seed", type=int, metavar="S", help="the same seed draws the same tokens")


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags of arrays beside a prompt, or of text without one."""
    text = args.prompt is not None
    wrong = [name for name in (_ARRAYS if text else _OWN) if getattr(args, name) is not None]
    if text and args.preprocess:
        wrong.append("preprocess")
    if wrong:
        flag, goes = wrong[0].replace("_", "-"), "does not go with --prompt" if text else "goes with --prompt alone"
        raise ConfigError(f"--{flag} {goes}: leave it out")
    if not text and args.input is None:
        raise ConfigError("give --input X, or --prompt TEXT for a language model")


def run(args: argparse.Namespace) -> int:
    """Print the text, and how it came on stderr."""
    given = {name: getattr(args, name) for name in _SAMPLING}
    sampling = Sampling(**{name: value for name, value in given.items() if value is not None})
    return (_run_here if args.device is None else _run_there)(args, sampling)


def _run_here(args: argparse.Namespace, sampling: Sampling) -> int:
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        with open_session(bundle, variant=args.variant, threads=args.threads, trust=args.trust) as session:
            start = perf_counter()
            text = session.generate(args.prompt, max_tokens=args.max_tokens, **vars(sampling), stream=True)
            for piece in text:
                if not args.json:
                    sys.stdout.write(piece)
                    sys.stdout.flush()
            if not args.json:
                sys.stdout.write("\n")
            seconds = perf_counter() - start
            told = {"text": text.text, "tokens": text.tokens, "ended": text.ended, "seed": text.seed}
            _tell(args, session.choice, told, len(text.prompt_tokens), seconds)
    return 0


def _run_there(args: argparse.Namespace, sampling: Sampling) -> int:
    """On a device, tokens go and come: words are made of them here, when all have come."""
    from edgekit.devices import deploy, opened_device
    from edgekit.devices.deploy import ZipappBundle

    with Bundle.open(args.bundle) as bundle:
        tokenizer = Tokenizer(bundle.read(need_language(bundle).tokenizer.path), where=bundle.path.name)
    prompt = tokenizer.encode(args.prompt)
    with opened_device(args.device) as device:
        show(device)
        deployed = deploy(args.bundle, device, vendor_wheels=args.vendor_wheels, **trust_of(args))
        assert isinstance(deployed, ZipappBundle)  # language models go nowhere else
        start = perf_counter()
        reply = deployed.follow(
            prompt, sampling=sampling, max_tokens=args.max_tokens, variant=args.variant, threads=args.threads
        )
        seconds = perf_counter() - start
    growing = tokenizer.growing(prompt)
    text = "".join([*(growing.add(token) for token in reply.tokens), growing.rest()])
    if not args.json:
        print(text)
    told = {"text": text, "tokens": reply.tokens, "ended": reply.ended, "seed": reply.seed}
    _tell(args, reply.choice, told, len(prompt), seconds)
    return 0


def _tell(args: argparse.Namespace, choice: Choice, told: Mapping[str, object], prompt: int, seconds: float) -> None:
    if args.json:
        result = {"prompt": args.prompt, "prompt_tokens": prompt, **told, "seconds": seconds, "device": args.device}
        emit(args, {**result, "choice": dataclasses.asdict(choice)}, "")
        return
    tokens = told["tokens"]
    assert isinstance(tokens, tuple)
    drawn = f", seed {told['seed']}" if args.temperature else ""
    progress(
        f"{prompt} tokens and {len(tokens)} that followed in {seconds:.2f} s (ended: {told['ended']}{drawn}): "
        f"{choice.variant} on {choice.package} {choice.engine_version}, {choice.accelerator}"
    )
