"""From the outputs of all time steps to one vector: `pooling(ys, mask) -> pooled`.

ys `[T, ..., F]`, mask `[T, ...]` bool, pooled `[..., F]`; zeros where no step is valid.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


class MaxPooling(nnx.Module):
    """The largest value of every feature over time (Collobert & Weston 2008)."""

    def __call__(self, ys: Array, mask: Array) -> Array:
        lowest = jnp.finfo(ys.dtype).min
        largest = jnp.max(jnp.where(mask[..., None], ys, lowest), axis=0)
        return jnp.where(jnp.any(mask, axis=0)[..., None], largest, 0)


class AttentionPooling(nnx.Module):
    """A weighted mean over time, its weights learned (Yang et al. 2016).

        weights = softmax over time of  tanh(y W) v
        pooled = sum_t weights_t y_t

    size: the number of columns of W.
    """

    def __init__(self, features: int, size: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, size, use_bias=False, rngs=rngs)
        self.score = nnx.Linear(size, 1, use_bias=False, rngs=rngs)

    def __call__(self, ys: Array, mask: Array) -> Array:
        return jnp.sum(self.weights(ys, mask)[..., None] * ys, axis=0)

    def weights(self, ys: Array, mask: Array) -> Array:
        """`[T, ...]`, zero where the mask is False."""
        scores = self.score(jnp.tanh(self.hidden(ys)))[..., 0]
        scores = jnp.where(mask, scores, jnp.finfo(ys.dtype).min)
        return jnp.where(mask, jax.nn.softmax(scores, axis=0), 0)


class LastPooling(nnx.Module):
    """What each direction has read last.

    The first `ahead` features are those of the last valid step; the rest, of a part that
    runs backwards, those of the first.
    """

    def __init__(self, ahead: int):
        self.ahead = ahead

    def __call__(self, ys: Array, mask: Array) -> Array:
        first = jnp.argmax(mask, axis=0)
        last = mask.shape[0] - 1 - jnp.argmax(mask[::-1], axis=0)
        ends = [_at(ys[..., : self.ahead], last), _at(ys[..., self.ahead :], first)]
        pooled = jnp.concatenate(ends, axis=-1)
        return jnp.where(jnp.any(mask, axis=0)[..., None], pooled, 0)


def _at(ys: Array, time: Array) -> Array:
    """`[..., F]`: of every row, the step that `time` `[...]` names."""
    return jnp.take_along_axis(ys, time[None, ..., None], axis=0)[0]
