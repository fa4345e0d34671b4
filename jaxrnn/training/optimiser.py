"""Optax optimisers and learning rate schedules, by name."""

import optax

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
    Raises ValueError for an unknown name or a warm-up as long as the run.
    """
    if warmup >= steps:
        raise ValueError(
            f"a warm-up of {warmup} steps leaves none of {steps} steps to train"
        )
    if name == "constant":
        after = optax.constant_schedule(peak)
    elif name == "cosine":
        after = optax.cosine_decay_schedule(peak, steps - warmup)
    elif name == "stairs":
        after = optax.exponential_decay(
            peak,
            transition_steps=decay_every,
            decay_rate=decay,
            transition_begin=decay_begin - decay_every - warmup,
            staircase=True,
        )
    else:
        raise ValueError(f"unknown schedule {name!r}; known: constant, cosine, stairs")
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
