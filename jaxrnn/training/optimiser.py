"""Optax optimisers and learning rate schedules, by name."""

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

OPTIMISERS = {
    "adamw": optax.adamw,
    "adam": lambda rate, weight_decay: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(rate)
    ),
    "rmsprop": lambda rate, weight_decay: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.rmsprop(rate)
    ),
    "sgd": lambda rate, weight_decay: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate)
    ),
}


def make_optimiser(
    name: str, rate: optax.ScalarOrSchedule, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """The optimiser `name` behind a clip of the gradient's norm to `clip`.

    "adamw" decouples `weight_decay` from the gradient (Loshchilov & Hutter 2019), the
    others add it to the gradient. Raises ValueError for an unknown name.
    """
    if name not in OPTIMISERS:
        raise ValueError(f"unknown optimiser {name!r}; known: {', '.join(OPTIMISERS)}")
    return optax.chain(
        optax.clip_by_global_norm(clip), OPTIMISERS[name](rate, weight_decay=weight_decay)
    )


def make_schedule(
    name: str,
    peak: float,
    steps: int,
    warmup: int,
    decay_begin: int,
    decay_every: int,
    decay: float,
) -> optax.Schedule:
    """The learning rate as a function of the step, after a linear warm-up to `peak`.

    "constant" stays there; "cosine" falls to zero at `steps` (Loshchilov & Hutter 2017);
    "stairs" is multiplied by `decay` every `decay_every` steps from `decay_begin` on.
    Raises ValueError for an unknown name, a warm-up as long as the run, or stairs without
    length.
    """
    if not 0 <= warmup < steps:
        raise ValueError(
            f"warmup must be 0 or more and less than the {steps} steps, got {warmup}"
        )
    if name == "constant":
        after = optax.constant_schedule(peak)
    elif name == "cosine":
        after = optax.cosine_decay_schedule(peak, steps - warmup)
    elif name == "stairs":
        after = _stairs(peak, decay_begin - warmup, decay_every, decay)
    else:
        raise ValueError(f"unknown schedule {name!r}; known: constant, cosine, stairs")
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _stairs(peak: float, begin: int, every: int, factor: float) -> optax.Schedule:
    # Not optax.exponential_decay, which cannot decay before it has stood for `every` steps.
    if every < 1:
        raise ValueError(f"decay_every must be 1 or more, got {every}")

    def rate(count: ArrayLike) -> Array:
        stairs = jnp.maximum((jnp.asarray(count) - begin) // every + 1, 0)
        return peak * factor ** stairs.astype(jnp.float32)

    return rate
