"""Any recurrence as a Flax module: one adapter serves every cell, present and future."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Recurrence
from jaxrnn.unroll import unroll


class NNXCell(nnx.RNNCellBase):
    """A recurrence that steps, as an NNX cell for `nnx.RNN` and `nnx.Bidirectional`.

    `cell(carry, x) -> (carry, y)` with x `[..., D]`; parameters are drawn from
    `rngs.params()` in `dtype`.
    """

    def __init__(self, cell: Recurrence, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.cell = cell
        self.params = _as_variables(cell.init(rngs.params(), dtype))

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:  # pyright: ignore
        return self.cell.step(_as_arrays(self.params), carry, inputs)

    def initialize_carry(  # pyright: ignore
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Any:
        return self.cell.initial_carry(_as_arrays(self.params), input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        return 1


class LinenCell(linen.RNNCellBase):
    """A recurrence that steps, as a Linen cell for `linen.RNN` and `linen.Bidirectional`.

    `cell(carry, x) -> (carry, y)` with x `[..., D]`; the parameters are one entry
    "params" in `param_dtype`. `initialize_carry` gives the start of these parameters
    inside `init` and `apply`, as `linen.RNN` calls it, and that of fresh ones outside.
    """

    cell: Recurrence
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.arrays = self.param("params", self.cell.init, self.param_dtype)

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:
        return self.cell.step(self.arrays, carry, inputs)

    @linen.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Any:
        bound = self.scope is not None
        params = (
            self.arrays if bound else self.cell.init(jax.random.key(0), self.param_dtype)
        )
        return self.cell.initial_carry(params, input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        return 1


class RNN(nnx.Module):
    """`unroll` of any recurrence as an NNX module.

    `rnn(xs, carry=None, *, mask=None, reset=None, key=None) -> (carry, ys)` with xs
    `[T, ..., D]`; parameters are drawn from `rngs.params()` in `dtype`. `strategy` and
    `checkpoint_every` are those of `unroll`. Noise, such as Zoneout's, happens only if a
    `key` is given.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        strategy: str = "auto",
        checkpoint_every: int | None = None,
    ):
        self.recurrence = recurrence
        self.strategy = strategy
        self.checkpoint_every = checkpoint_every
        self.params = _as_variables(recurrence.init(rngs.params(), dtype))

    def __call__(
        self,
        xs: Array,
        carry: Any = None,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[Any, Array]:
        return unroll(
            self.recurrence,
            self.noisy(key, len(xs), xs.shape[1:-1]),
            xs,
            carry,
            mask=mask,
            reset=reset,
            strategy=self.strategy,
            checkpoint_every=self.checkpoint_every,
        )

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        return self.recurrence.initial_carry(self.arrays(), batch_shape)

    def arrays(self) -> Any:
        """The parameters as the recurrence takes them."""
        return _as_arrays(self.params)

    def noisy(self, key: Array | None, length: int, batch_shape: tuple[int, ...]) -> Any:
        """`arrays` with the noise of one pass, or without where `key` is None."""
        params = self.arrays()
        if key is None:
            return params
        return self.recurrence.with_noise(params, key, length, batch_shape)


def _as_variables(params: Any) -> Any:
    return nnx.data(jax.tree.map(nnx.Param, params))


def _as_arrays(params: Any) -> Any:
    return jax.tree.map(
        lambda p: p[...], params, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
    )
