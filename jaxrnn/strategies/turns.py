"""`jax.lax.scan` over time, several steps a body where the platform wants them."""

from collections.abc import Callable
from typing import Any

import jax

# On a GPU every turn of a loop costs as much as a whole small step: with eight steps a
# turn, half the time is left (experiments/speed/README.md). On a CPU it is no gain. That
# goes by the host that traces, unlike the choice of a strategy: the results are the same,
# and `jax.lax.platform_dependent` around every loop would make tracing the gradient of two
# layers of LSTM take a third longer on every host.
STEPS_A_TURN = {"gpu": 8}


def over_steps(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, per_step: Any, reverse: bool
) -> tuple[Any, Any]:
    """`step(carry, inputs) -> (carry, outputs)` over `per_step`, of leaves `[T, ...]`."""
    length = jax.tree.leaves(per_step)[0].shape[0]
    known = isinstance(length, int)  # not where exported for any length
    unroll = STEPS_A_TURN.get(jax.default_backend(), 1) if known else 1
    return jax.lax.scan(step, carry, per_step, reverse=reverse, unroll=unroll)
