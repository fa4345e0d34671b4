"""One update of one trial: after a sequence, or at every step of one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.long_lag import realtime
from experiments.long_lag.config import Config
from experiments.long_lag.network import Network
from experiments.long_lag.problems import Example, Problem, Result
from jaxrnn.strategies.select import select
from jaxrnn.training.optimiser import Optimiser

# learn(weights, opt_state, key, trial, n) -> weights, opt_state, how the trial answered
Learn = Callable[[Any, Any, Array, Array, Array], tuple[Any, Any, Result]]


def make_learn(
    config: Config, network: Any, problem: Problem, optimiser: Optimiser
) -> Learn:
    """Returns update n of a trial, which draws its sequences by `key`."""

    def network_after(n: Array) -> Any:
        """The network as it is after n updates, at first without its cell."""
        if config.cell_from == 0:
            return network
        assert isinstance(network, Network)
        return replace(network, present=n >= config.cell_from)

    def loss(weights: Any, network: Any, examples: Example) -> tuple[Array, Result]:
        zs = network(weights, jnp.moveaxis(examples.xs, 0, 1))
        results = jax.vmap(problem.judge, in_axes=(1, 0))(zs, examples)
        return jnp.mean(results.loss), jax.tree.map(lambda a: a[0], results)

    def descend(weights: Any, opt_state: Any, gradients: Any):
        with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
            updates, opt_state = optimiser.transform.update(gradients, opt_state, weights)
            return optax.apply_updates(weights, updates), opt_state

    def at_each_step(weights: Any, opt_state: Any, key: Array, trial: Array, n: Array):
        """A sequence is answered as the weights move."""
        recurrent: Network = network_after(n)
        example = problem.draw(key, trial)

        def learn_at(state: tuple, example: Example) -> tuple[tuple, Array]:
            weights, opt_state, moment = state

            def loss(z: Array) -> Array:
                now = jax.tree.map(lambda a: a[None], (z, example))
                return problem.judge(*now).loss

            gradients, moment, z = realtime.gradient(
                recurrent, weights, moment, example.xs, loss
            )
            learned = descend(weights, opt_state, gradients)
            kept = select(example.scored, learned, (weights, opt_state))
            return (*kept, moment), z

        start = weights, opt_state, realtime.beginning(recurrent, weights)
        (weights, opt_state, _), zs = jax.lax.scan(learn_at, start, example)
        return weights, opt_state, problem.judge(zs, example)

    def at_the_end(weights: Any, opt_state: Any, key: Array, trial: Array, n: Array):
        """The answer is that to the first sequence, before the update."""
        keys = jax.random.split(key, config.batch_size)
        examples = jax.vmap(lambda key: problem.draw(key, trial))(keys)
        descent = jax.grad(loss, has_aux=True)
        gradients, result = descent(weights, network_after(n), examples)
        return *descend(weights, opt_state, gradients), result

    return at_each_step if config.updates == "step" else at_the_end
