"""How many samples Triton may put into one run of the model."""

from __future__ import annotations

from edgekit.errors import ConfigError
from edgekit.manifest import Variant
from edgekit_triton.choosing import PLAN
from edgekit_triton.options import Options
from edgekit_triton.signature import Signature

DEFAULT_MAX_BATCH = 8  # what an engine is built for where nobody says (edgekit.tensorrt.recipe.Recipe)
NO_BATCHING = 0  # Triton's word: `dims` are then whole shapes


def max_batch_size(variant: Variant, signature: Signature, options: Options) -> int:
    """Triton's `max_batch_size`. Raises ConfigError when what was asked for is not in the file."""
    if not signature.batched:
        _check_not_asked(options, f"variant '{variant.id}' has a fixed batch, so Triton cannot batch requests for it")
        return NO_BATCHING
    limit = _limit(variant) if variant.format == PLAN else None
    if variant.format == PLAN and limit is None and options.max_batch is None:
        raise ConfigError(
            f"variant '{variant.id}' does not say the largest batch of its engine: give --max-batch, as it was built"
        )
    size = options.max_batch or limit or DEFAULT_MAX_BATCH
    if limit is not None and size > limit:
        raise ConfigError(
            f"--max-batch is {size}, and the engine of variant '{variant.id}' was built for up to {limit}"
        )
    _check_preferred(size, options)
    return size


def _limit(variant: Variant) -> int | None:
    """The largest batch that an engine was built for; None where the bundle does not say."""
    if variant.tensorrt is None:
        return None
    shapes = [shape.max[0] for profile in variant.tensorrt.profiles for shape in profile.values() if shape.max]
    return min(shapes, default=DEFAULT_MAX_BATCH)


def _check_preferred(size: int, options: Options) -> None:
    if size == 1:
        _check_not_asked(options, "--max-batch is 1, so there is nothing to batch", of_max_batch=False)
    too_large = [preferred for preferred in options.preferred_batch if preferred > size]
    if too_large:
        raise ConfigError(f"--preferred-batch is {too_large[0]}, expected at most {size}, which is --max-batch")


def _check_not_asked(options: Options, why: str, *, of_max_batch: bool = True) -> None:
    asked = {
        "--max-batch": options.max_batch if of_max_batch else None,
        "--preferred-batch": options.preferred_batch or None,
        "--max-queue-delay-us": options.max_queue_delay_us,
    }
    for flag, value in asked.items():
        if value is not None:
            raise ConfigError(f"{flag} is given, but {why}: leave {flag} out")
