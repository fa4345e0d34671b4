"""Optax optimisers and learning rate schedules, by name."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike


class Optimiser(NamedTuple):
    """What makes updates of gradients."""

    transform: optax.GradientTransformation
    # The learning rate in `transform`, by updates done, where it is to be told.
    schedule: optax.Schedule | None = None
    # Scales the updates down when evaluations no longer get better.
    plateau: optax.GradientTransformationExtraArgs | None = None


# Each takes (rate, momentum, beta1); the weight decay is added to the gradient before them.
_COUPLED = {
    "adam": lambda rate, momentum, beta1: optax.adam(rate, b1=beta1),
    "rmsprop": lambda rate, momentum, _: optax.rmsprop(rate, momentum=momentum or None),
    "adagrad": lambda rate, *_: optax.adagrad(rate, initial_accumulator_value=0.0),
    "sgd": lambda rate, momentum, _: optax.sgd(rate, momentum=momentum or None),
}


def make_transform(
    name: str,
    rate: optax.ScalarOrSchedule,
    weight_decay: float,
    clip: float,
    momentum: float = 0.0,
    *,
    decayed: Callable[[Any], Any] | None = None,
    beta1: float = 0.9,
    loss_factor: float = 1.0,
) -> optax.GradientTransformation:
    """The optimiser `name` behind a clip of the gradient's norm to `clip`, or none if inf.

    "adamw" decouples `weight_decay` from the gradient (Loshchilov & Hutter 2019), the
    others add it to the gradient; it is that of all parameters, or of those that
    the mask `decayed` chooses, such as `matrices`. `momentum` is that of "sgd" and
    "rmsprop", `beta1` the decay of the gradient's mean in "adam" and "adamw". The gradient
    times `loss_factor` is what is clipped and learned from. Raises ValueError for an
    unknown name, a number out of range, or a momentum or beta1 where there is none.
    """
    if name != "adamw" and name not in _COUPLED:
        known = ", ".join(["adamw", *_COUPLED])
        raise ValueError(f"unknown optimiser {name!r}; known: {known}")
    if not clip > 0:
        raise ValueError(f"clip must be above 0, and inf for none, got {clip}")
    if momentum and name not in ("sgd", "rmsprop"):
        raise ValueError(f"momentum is for sgd and rmsprop, got {momentum} for {name}")
    if not 0 <= beta1 < 1 or (beta1 != 0.9 and name not in ("adam", "adamw")):
        raise ValueError(
            f"beta1 lies in [0, 1) and is for adam and adamw, got {beta1} for {name}"
        )
    if not 0 < loss_factor < math.inf:
        raise ValueError(f"loss_factor must be above 0 and finite, got {loss_factor}")
    # What would change nothing would still cost a pass over all parameters.
    clipped = optax.identity()
    if clip < math.inf:
        # Before the factor: the norm is then the one that a run tells, computed once.
        clipped = optax.clip_by_global_norm(clip / loss_factor)
    if loss_factor != 1:
        clipped = optax.chain(clipped, optax.scale(loss_factor))
    if name == "adamw":
        adamw = optax.adamw(rate, b1=beta1, weight_decay=weight_decay, mask=decayed)
        return optax.chain(clipped, adamw)
    decay = optax.identity()
    if weight_decay:
        decay = optax.add_decayed_weights(weight_decay, decayed)
    return optax.chain(clipped, decay, _COUPLED[name](rate, momentum, beta1))


def matrices(params: Any) -> Any:
    """Which parameters have two axes or more: weights and embeddings.

    Biases, gains, peepholes and the recurrent weights of a diagonal recurrence have one.
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)


def make_plateau(
    decay: float, patience: int, threshold: float = 1e-4
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates by `decay` after `patience` evaluations without a gain, which
    is the share `threshold` of the best or more.

    Raises ValueError for a decay or threshold outside of (0, 1) or a patience below 1.
    """
    if not 0 < decay < 1 or patience < 1:
        raise ValueError(
            "a plateau needs a decay in (0, 1) and a patience of 1 or more, "
            f"got {decay} and {patience}"
        )
    if not 0 < threshold < 1:
        raise ValueError(f"a plateau needs a threshold in (0, 1), got {threshold}")
    return optax.contrib.reduce_on_plateau(factor=decay, patience=patience, rtol=threshold)


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
    "stairs" is multiplied by `decay` every `decay_every` steps from `decay_begin` on;
    "plateau" is constant, since evaluations decide there: see `make_plateau`.
    Raises ValueError for an unknown name, no steps, a warm-up as long as the run, or
    stairs without length.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    if not 0 <= warmup < steps:
        raise ValueError(
            f"warmup must be 0 or more and less than the {steps} steps, got {warmup}"
        )
    if name in ("constant", "plateau"):
        after = optax.constant_schedule(peak)
    elif name == "cosine":
        after = optax.cosine_decay_schedule(peak, steps - warmup)
    elif name == "stairs":
        after = _stairs(peak, decay_begin - warmup, decay_every, decay)
    else:
        raise ValueError(
            f"unknown schedule {name!r}; known: constant, cosine, stairs, plateau"
        )
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
