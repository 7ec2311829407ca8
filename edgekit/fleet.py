"""What each board of a fleet would run of a bundle, in which precision, what it must build, and what is refused.

It says what follows from the bundle and from what is known of JetPacks; how long a build takes and how fast a board is,
only a board can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.errors import ConfigError, did_you_mean
from edgekit.jetpacks import JetPack, load_jetpacks
from edgekit.manifest import Manifest, Variant
from edgekit.recipe import read_toml
from edgekit.runtime.choosing import Rejected, ranked
from edgekit.runtime.engines import LEAST_TENSORRT, PLAN, TENSORRT
from edgekit.strict import parse
from edgekit.versions import version_key

_SM = re.compile(r"SM\d{2,3}")
_VERSION = re.compile(r"\d+(\.\d+)*")
_XAVIER = "SM72"
_ON_JETSON = ("SM72", "SM87", "SM110")
_FIRST_11, _FIRST_11_ON_JETSON = "11.0", "11.4.1"
_JETPACK_OF_11 = "7.2.2"
_LEAST_JETPACK = "6.1"  # the first whose TensorRT is new enough; 6.0 has 8.6
_LAST_DLA_OF_10 = "10.7"
_PLAN_REFUSED = (
    "it is a TensorRT engine, which holds code and runs on a machine like that which built it alone; boards build "
    "their own: pack ONNX"
)
_UPDATE = f"update it to JetPack {_LEAST_JETPACK} or newer"
_AGX_ORIN, _THOR = "agx-orin", "SM110"


@dataclass(frozen=True)
class Board:
    """One kind of board in a fleet."""

    name: str
    count: int = 1
    jetpack: str | None = None  # "6.2.1"
    module: str | None = None  # "orin-nano"; needed where a JetPack runs on several GPUs
    tensorrt: str | None = None  # the installed one, where it is not the JetPack's, or there is no JetPack
    sm: str | None = None  # "SM87", of a board that is no Jetson module

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"board '{self.name}': count is {self.count}, expected at least 1")
        if self.jetpack is None and self.tensorrt is None:
            raise ConfigError(f"board '{self.name}': give jetpack, for example \"6.2\", or tensorrt and sm")
        for key, said, example in (("jetpack", self.jetpack, "6.2"), ("tensorrt", self.tensorrt, "10.3")):
            if said is not None and not _VERSION.fullmatch(said):
                raise ConfigError(
                    f"board '{self.name}': {key} is '{said}', expected a version, for example \"{example}\""
                )
        if self.sm is not None and not _SM.fullmatch(self.sm):
            raise ConfigError(
                f"board '{self.name}': sm is '{self.sm}', expected SM and its number, for example \"SM87\""
            )
        modules = load_jetpacks().modules
        if self.module is not None and self.module not in modules:
            raise ConfigError(
                f"board '{self.name}': unknown module '{self.module}'{did_you_mean(self.module, modules)}"
            )
        if self.module is not None and self.sm not in (None, modules[self.module]):
            raise ConfigError(f"board '{self.name}': {self.module} is {modules[self.module]}, sm says {self.sm}")


@dataclass(frozen=True)
class Fleet:
    """A fleet file: `[[board]]` tables."""

    board: tuple[Board, ...] = ()


@dataclass(frozen=True)
class BoardPlan:
    """What one kind of board does with a bundle; None where it is not known, or refused."""

    name: str
    count: int
    jetpack: str | None
    module: str | None
    tensorrt: str | None
    cuda: str | None
    sm: str | None
    variant: str | None = None
    precision: str | None = None
    engine: str | None = None
    build: str | None = None  # what must be built, and where
    refused: str | None = None  # why no variant runs on it
    passed_over: tuple[Rejected, ...] = ()  # the bundle's other variants


@dataclass(frozen=True)
class FleetPlan:
    """Every board of a fleet."""

    bundle: str
    boards: tuple[BoardPlan, ...]
    sources: tuple[str, ...] = field(default_factory=lambda: load_jetpacks().sources)  # of what is known of JetPacks

    @property
    def refused(self) -> tuple[BoardPlan, ...]:
        """The boards that run nothing."""
        return tuple(board for board in self.boards if board.refused is not None)


def load_fleet(path: Path) -> tuple[Board, ...]:
    """Read a fleet file. Raises ConfigError that names the key."""
    boards = parse(Fleet, read_toml(path, what="fleet file"), where=path.name).board
    if not boards:
        raise ConfigError(f'{path.name}: no boards; add a table such as [[board]] with a name and jetpack = "6.2"')
    names = [board.name for board in boards]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path.name}: two boards are called '{name}'; give each kind of board a name of its own")
    return boards


def plan_fleet(manifest: Manifest, boards: Sequence[Board]) -> FleetPlan:
    """Plan every board."""
    return FleetPlan(f"{manifest.name} {manifest.version}", tuple(_plan(manifest, board) for board in boards))


@dataclass(frozen=True)
class _Known:
    """A board with what its JetPack says of it."""

    board: Board
    release: JetPack | None
    tensorrt: str | None
    sm: str | None

    @property
    def jetson(self) -> bool:
        """Whether TensorRT must be one that supports its JetPack."""
        return self.board.jetpack is not None or self.sm in _ON_JETSON


def _plan(manifest: Manifest, board: Board) -> BoardPlan:
    known = _known(board)
    facts = BoardPlan(
        board.name, board.count, board.jetpack, board.module, known.tensorrt,
        None if known.release is None else known.release.cuda, known.sm,
    )  # fmt: skip
    reason = next((said for check in _CHECKS if (said := check(known)) is not None), None)
    if reason is not None:
        return _refused(facts, reason)
    return _chosen(facts, manifest, known)


def _known(board: Board) -> _Known:
    jetpacks = load_jetpacks()
    release = None if board.jetpack is None else jetpacks.find(board.jetpack)
    found = () if release is None else jetpacks.compute_capabilities(release)
    sm = board.sm or jetpacks.modules.get(board.module or "") or (found[0] if len(found) == 1 else None)
    return _Known(board, release, board.tensorrt or (release.tensorrt if release else None), sm)


def _jetpack_is_known(known: _Known) -> str | None:
    if known.tensorrt is not None:
        return None
    if version_key(known.board.jetpack or "") < version_key(_LEAST_JETPACK):
        return f"JetPack {known.board.jetpack} has a TensorRT older than {LEAST_TENSORRT}: {_UPDATE}"
    releases = ", ".join(load_jetpacks().releases)
    return f"JetPack {known.board.jetpack} is not known here (known: {releases}): give tensorrt and sm"


def _no_xavier(known: _Known) -> str | None:
    if known.sm != _XAVIER:
        return None
    return f"Xavier ({_XAVIER}) gets no JetPack after 5, whose TensorRT 8.5 is older than {LEAST_TENSORRT}"


def _floor(known: _Known) -> str | None:
    version = known.tensorrt or ""
    if version_key(version) >= version_key(LEAST_TENSORRT):
        return None
    brought = f"JetPack {known.board.jetpack} has TensorRT" if known.board.tensorrt is None else "it has TensorRT"
    return f"{brought} {version}, older than {LEAST_TENSORRT}: {_UPDATE}"


def _module_is_of_the_release(known: _Known) -> str | None:
    release, module = known.release, known.board.module
    if release is None or module is None or module in release.modules:
        return None
    return f"JetPack {known.board.jetpack} does not run on {module} (it runs on {', '.join(release.modules)})"


def _sm_is_known(known: _Known) -> str | None:
    if known.sm is not None:
        return None
    if known.release is None:
        return 'its GPU is not known: give sm, for example sm = "SM87"'
    found = " and ".join(load_jetpacks().compute_capabilities(known.release))
    return f"its GPU is not known: JetPack {known.board.jetpack} runs on {found}; give module, or sm"


def _eleven_on_jetson(known: _Known) -> str | None:
    version, board = version_key(known.tensorrt or ""), known.board
    if not known.jetson or version < version_key(_FIRST_11):
        return None
    if version < version_key(_FIRST_11_ON_JETSON):
        return f"TensorRT {known.tensorrt} supports no JetPack: {_FIRST_11} to 11.4.0 do not; keep the JetPack's own"
    if board.jetpack is None or version_key(board.jetpack) < version_key(_JETPACK_OF_11):
        return (
            f"TensorRT {known.tensorrt} needs JetPack {_JETPACK_OF_11} or newer, it has {board.jetpack or 'none given'}"
        )
    if board.module != _AGX_ORIN and known.sm != _THOR:
        return f"TensorRT {known.tensorrt} supports AGX Orin and Thor alone, it is {board.module or known.sm}"
    return None


_CHECKS: tuple[Callable[[_Known], str | None], ...] = (
    _no_xavier, _jetpack_is_known, _floor, _module_is_of_the_release, _sm_is_known, _eleven_on_jetson,
)  # fmt: skip


def _chosen(facts: BoardPlan, manifest: Manifest, known: _Known) -> BoardPlan:
    """The first variant, as the runtime ranks them, that TensorRT builds there."""
    variants = ranked(manifest)
    reasons = {variant.id: _why_not(variant, known) for variant in variants}
    chosen = next((variant for variant in variants if reasons[variant.id] is None), None)
    if chosen is None:
        passed = tuple(Rejected(name, reason or "") for name, reason in reasons.items())
        said = "; ".join(f"'{item.variant}': {item.reason}" for item in passed)
        return _refused(facts, f"TensorRT builds no variant of the bundle there: {said}", passed)
    comes_first = f"'{chosen.id}' comes before it"
    passed = tuple(Rejected(name, why or comes_first) for name, why in reasons.items() if name != chosen.id)
    return _with(facts, chosen, passed)


def _why_not(variant: Variant, known: _Known) -> str | None:
    recipe = variant.tensorrt
    if variant.format == PLAN:
        return _PLAN_REFUSED
    if recipe is None:
        return "it carries no recipe for TensorRT"
    if recipe.compute_capabilities:
        return "its recipe names compute capabilities, which TensorRT-RTX alone builds for"
    if recipe.dla_core is not None and not _has_dla(known):
        return f"its recipe asks for DLA core {recipe.dla_core}, which TensorRT {known.tensorrt} does not have there"
    return None


def _has_dla(known: _Known) -> bool:
    """TensorRT 10.7 was the last with DLA, until 11.4.1 brought it back to AGX Orin."""
    version = version_key(known.tensorrt or "")
    if version < version_key(_FIRST_11_ON_JETSON):
        return known.sm != _THOR and version[:2] <= version_key(_LAST_DLA_OF_10)
    return known.board.module == _AGX_ORIN


def _with(facts: BoardPlan, variant: Variant, passed: tuple[Rejected, ...]) -> BoardPlan:
    where = "on the board, once" if facts.count == 1 else f"on each of the {facts.count} boards, once"
    return replace(
        facts, variant=variant.id, precision=variant.precision, engine=f"{TENSORRT} {facts.tensorrt}",
        build=f"the engine of {variant.member.path} ({variant.member.bytes:,} bytes), {where}", passed_over=passed,
    )  # fmt: skip


def _refused(facts: BoardPlan, reason: str, passed: tuple[Rejected, ...] = ()) -> BoardPlan:
    return replace(facts, refused=reason, passed_over=passed)
