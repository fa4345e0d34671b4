"""One update of one trial: after a sequence, or at every step of one."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array

from jaxrnn.strategies.select import select

from . import realtime
from .network import Network
from .problem import LongLag
from .tasks import Example, Result

# learn(weights, opt_state, key, trial, n) -> weights, opt_state, how the trial answered
Learn = Callable[[Any, Any, Array, Array, Array], tuple[Any, Any, Result]]


def make_learn(problem: LongLag, transform: optax.GradientTransformation) -> Learn:
    """Returns update n of a trial, which draws its sequences by `key`."""

    def descend(weights: Any, opt_state: Any, gradients: Any):
        with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
            updates, opt_state = transform.update(gradients, opt_state, weights)
            return optax.apply_updates(weights, updates), opt_state

    def at_each_step(weights: Any, opt_state: Any, key: Array, trial: Array, n: Array):
        """A sequence is answered as the weights move."""
        network: Network = problem.network_after(n)
        example = problem.task.draw(key, trial)

        def learn_at(state: tuple, example: Example) -> tuple[tuple, Array]:
            weights, opt_state, moment = state

            def loss(z: Array) -> Array:
                now = jax.tree.map(lambda a: a[None], (z, example))
                return problem.task.judge(*now).loss

            gradients, moment, z = realtime.gradient(
                network, weights, moment, example.xs, loss
            )
            learned = descend(weights, opt_state, gradients)
            kept = select(example.scored, learned, (weights, opt_state))
            return (*kept, moment), z

        start = weights, opt_state, realtime.beginning(network, weights)
        (weights, opt_state, _), zs = jax.lax.scan(learn_at, start, example)
        return weights, opt_state, problem.task.judge(zs, example)

    def loss(weights: Any, key: Array, trial: Array, n: Array) -> tuple[Array, Result]:
        value, _, answered = problem.loss(weights, n, trial, key)
        return value, Result(**answered)

    def at_the_end(weights: Any, opt_state: Any, key: Array, trial: Array, n: Array):
        """The answer is that to the first sequence, before the update."""
        gradients, result = jax.grad(loss, has_aux=True)(weights, key, trial, n)
        return *descend(weights, opt_state, gradients), result

    return at_each_step if problem.config.updates == "step" else at_the_end
