"""Trains eight models at once by `vmap`, and asks them together.

A cell is a constant and its params are a tree of arrays: eight of them are one tree whose
leaves have one more axis, and everything that takes one takes eight under `jax.vmap`. The
task is to tell which of two noisy waves is the faster one, from 48 examples.

As it stands the eight were right in 76.6 % of new cases on average, together in 83.4 %.
"""

import jax
import jax.numpy as jnp
import optax

from jaxrnn import GRU, unroll

MODELS, UPDATES, EXAMPLES, LENGTH = 8, 80, 48, 30
cell = GRU(2, 16)


def init(key):
    cell_key, key = jax.random.split(key)
    return cell.init(cell_key), 0.3 * jax.random.normal(key, (16,))


def logit(params, xs):
    """[B]: above zero where the first wave of xs [T, B, 2] is the faster one."""
    cell_params, w = params
    carry, _ = unroll(cell, cell_params, xs)
    return carry.h @ w


def cases(key, count):
    """xs [T, count, 2] and whether the first wave is the faster one."""
    speed_key, phase_key, noise_key = jax.random.split(key, 3)
    speeds = jax.random.uniform(speed_key, (count, 2), minval=0.3, maxval=0.9)
    phases = jax.random.uniform(phase_key, (count, 2), maxval=6.0)
    noise = 0.5 * jax.random.normal(noise_key, (LENGTH, count, 2))
    time = jnp.arange(float(LENGTH))[:, None, None]
    return jnp.sin(time * speeds + phases) + noise, speeds[:, 0] > speeds[:, 1]


adam = optax.adam(1e-2)
learned = cases(jax.random.key(1), EXAMPLES)


def update(state, drawn):
    """Each model learns from a draw of its own, with replacement (bagging)."""
    params, opt_state = state
    xs, first = learned[0][:, drawn], learned[1][drawn]

    def loss(params):
        labels = first.astype(jnp.float32)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logit(params, xs), labels))

    updates, opt_state = adam.update(jax.grad(loss)(params), opt_state)
    return (optax.apply_updates(params, updates), opt_state), None


def train(params, drawn):
    """A model's params after it learned from the cases `drawn` [UPDATES, EXAMPLES]."""
    (params, _), _ = jax.lax.scan(update, (params, adam.init(params)), drawn)
    return params


params = jax.vmap(init)(jax.random.split(jax.random.key(2), MODELS))
drawn = jax.random.randint(jax.random.key(4), (MODELS, UPDATES, EXAMPLES), 0, EXAMPLES)
params = jax.jit(jax.vmap(train))(params, drawn)
xs, first = cases(jax.random.key(3), 2000)
logits = jax.vmap(logit, in_axes=(0, None))(params, xs)  # [MODELS, 2000]
alone = jnp.mean((logits > 0) == first)
together = jnp.mean((jnp.mean(jax.nn.sigmoid(logits), 0) > 0.5) == first)
print(f"alone {alone:.3f}, together {together:.3f}")
