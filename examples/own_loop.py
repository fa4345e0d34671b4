"""A model, data and loop of your own: stop it anywhere, it ends with the same bits."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxrnn import LSTM, flax, training

rnn, output = flax.RNN(LSTM(1, 32), rngs=nnx.Rngs(0)), nnx.Linear(32, 1, rngs=nnx.Rngs(1))
graph, params = nnx.split((rnn, output))
adam = optax.adam(1e-2)


def loss(params, waves):  # of the next value of each wave, from those before it
    rnn, output = nnx.merge(graph, params)
    return jnp.mean((output(rnn(waves[:-1])[1]) - waves[1:]) ** 2)


@jax.jit
def step(n, params, opt_state):  # the data, too, are a pure function of the step
    waves = jnp.sin(jnp.arange(40.0)[:, None, None] / 3 + n + jnp.arange(16.0)[:, None])
    updates, opt_state = adam.update(jax.grad(loss)(params, waves), opt_state)
    return optax.apply_updates(params, updates), opt_state


folder, start = "runs/own_loop", (params, adam.init(params))
with training.RunLock(folder), training.CheckpointStore(folder) as store:
    done, state, _ = store.restore(start) or (0, start, {})
    for n in range(done, 200):
        state = step(n, *state)
        if (n + 1) % 20 == 0:
            store.save(n + 1, state)
