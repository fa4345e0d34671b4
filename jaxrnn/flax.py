"""Any recurrence as a Flax module: one adapter serves every cell, present and future."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Recurrence
from jaxrnn.entry import leading_shape
from jaxrnn.strategies.choose import Named
from jaxrnn.strategies.strategy import Strategy
from jaxrnn.unroll import unroll


class _Signature:
    """What `help` shows of a class: its own `__init__`, which NNX's metaclass hides."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError  # an instance is called by its `__call__`
        shown = inspect.signature(owner.__init__)
        return shown.replace(parameters=list(shown.parameters.values())[1:])


class NNXCell(nnx.RNNCellBase):
    """A recurrence that steps, as an NNX cell for `nnx.RNN` and `nnx.Bidirectional`.

    `cell(carry, x) -> (carry, y)` with x `[..., D]`; parameters are drawn from
    `rngs.params()` in `dtype`. `nnx.state` names them as the recurrence does, the parts
    of a composition by their number: "params", "w_x" or "params", 0, "w_x".
    """

    __signature__ = _Signature()

    def __init__(self, cell: Recurrence, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.cell = cell
        self.params = _as_variables(cell.init(rngs.params(), dtype))

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:  # pyright: ignore
        return self.cell.step(_as_arrays(self.params), carry, inputs)

    def initialize_carry(  # pyright: ignore
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Callable[[Array, tuple[int, ...], Any], Array] | None = None,
    ) -> Any:
        """The recurrence's own start for inputs `[..., D]` of `input_shape`, or one drawn.

        With `carry_init(key, shape, dtype)` every leaf of the carry is what it gives for a
        key of `rngs` (of its stream "carry"), which nothing else reads. Raises ValueError
        for a `carry_init` without `rngs`, or for a carry that counts in integers.
        """
        start = self.cell.initial_carry(_as_arrays(self.params), _batch(self, input_shape))
        if carry_init is None:
            return start
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        if stream is None:
            raise ValueError("carry_init draws from rngs, which is None: give both")
        for path, leaf in jax.tree.leaves_with_path(start):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                raise ValueError(
                    f"carry_init cannot draw carry{jax.tree_util.keystr(path)} of "
                    f"{self.cell}, which is {leaf.dtype}"
                )
        return jax.tree.map(lambda x: carry_init(stream(), x.shape, x.dtype), start)

    @property
    def num_feature_axes(self) -> int:
        return len(self.cell.input_shape)


class LinenCell(linen.RNNCellBase):
    """A recurrence that steps, as a Linen cell for `linen.RNN` and `linen.Bidirectional`.

        variables = LinenCell(jaxrnn.LSTM(3, 4)).init(key, carry, x)
        variables["params"]                       # {"w_x": ..., "w_h": ..., "b": ...}

    `cell(carry, x) -> (carry, y)` with x `[..., D]`. The parameters, in `param_dtype`, are
    plain dicts under the recurrence's own names (`to_dict`); those of a composition lie
    one level lower, under "0", "1" and so on. `initialize_carry` gives the start of these
    parameters inside `init` and `apply`, as `linen.RNN` calls it, and that of fresh ones
    outside; its key is not used. Raises ValueError for parameters of another size.
    """

    cell: Recurrence
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        # All at once: the parameters of a cell may depend on one another.
        drawn = cache(lambda: self._draw(self.make_rng("params")))
        names = jax.eval_shape(self._draw, jax.random.key(0))
        given = {
            name: self.variable("params", name, lambda name=name: drawn()[name]).value
            for name in names
        }
        self.arrays = from_dict(self.cell, given)

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:
        return self.cell.step(self.arrays, carry, inputs)

    @linen.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Any:
        bound = self.scope is not None
        params = (
            self.arrays if bound else self.cell.init(jax.random.key(0), self.param_dtype)
        )
        return self.cell.initial_carry(params, _batch(self, input_shape))

    @property
    def num_feature_axes(self) -> int:
        return len(self.cell.input_shape)

    @linen.nowrap
    def _draw(self, key: Array) -> dict[str, Any]:
        return to_dict(self.cell.init(key, self.param_dtype))


class RNN(nnx.Module):
    """`unroll` of any recurrence as an NNX module. TIME COMES FIRST, as in `unroll`.

        rnn = RNN(jaxrnn.LSTM(64, 256), rngs=nnx.Rngs(0))
        carry, ys = rnn(xs)                               # xs [T, B, 64], ys [T, B, 256]
        carry, ys = rnn(xs, time_major=False)             # xs [B, T, 64], ys [B, T, 256]

    `rnn(xs, carry=None, *, mask=None, reset=None, reverse=None, time_major=None,
    key=None) -> (carry, ys)`: arrays or nested lists, xs `[T, ..., D]`, mask and reset
    `[T, ...]` and ys `[T, ..., output_size]`. Batch-first data can't be told from these by
    their shapes: without `time_major=False` their batch is taken for time. With it, time
    is the axis before the features, as in Flax, however many batch axes precede it: xs
    and ys `[..., T, D]`, mask and reset `[..., T]`; the carry is the same in both.

    Parameters are drawn from `rngs.params()` in `dtype` and named as `NNXCell` names them.
    `reverse`, `strategy` and `checkpoint_every` are those of `unroll`; a call may override
    `reverse` and `time_major`. Noise, such as Zoneout's, happens only if a `key` is given.
    Raises ValueError for what `unroll` does not take.
    """

    __signature__ = _Signature()

    def __init__(
        self,
        recurrence: Recurrence,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        time_major: bool = True,
        reverse: bool = False,
        strategy: Named | Strategy = "auto",
        checkpoint_every: int | None = None,
    ):
        if not isinstance(recurrence, Recurrence):
            raise ValueError(f"RNN takes a cell, or a Stack of some, got {recurrence!r}")
        self.recurrence = recurrence
        self.time_major = time_major
        self.reverse = reverse
        self.strategy: Named | Strategy = strategy
        self.checkpoint_every = checkpoint_every
        self.params = _as_variables(recurrence.init(rngs.params(), dtype))

    def __call__(
        self,
        xs: Array,
        carry: Any = None,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
        reverse: bool | None = None,
        time_major: bool | None = None,
        key: Array | None = None,
    ) -> tuple[Any, Array]:
        time_major = self.time_major if time_major is None else time_major
        xs = jnp.asarray(xs)
        mask, reset = (None if f is None else jnp.asarray(f) for f in (mask, reset))
        if not time_major:
            features = len(self.recurrence.input_shape)
            xs, mask, reset = _time_first(xs, mask, reset, features)
        carry, ys = unroll(
            self.recurrence,
            self.noisy(key, xs.shape[0], leading_shape(self.recurrence, xs)[1:]),
            xs,
            carry,
            mask=mask,
            reset=reset,
            reverse=self.reverse if reverse is None else reverse,
            strategy=self.strategy,
            checkpoint_every=self.checkpoint_every,
        )
        if time_major:
            return carry, ys
        return carry, jnp.moveaxis(ys, 0, -1 - len(self.recurrence.output_shape))

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


def to_dict(params: Any) -> dict[str, Any]:
    """A recurrence's params as nested plain dicts of arrays, as `LinenCell` keeps them.

    A field has its name, an entry of a tuple its number as a string; None is left out.
    """
    tree = {}
    for names, leaf in _named(params).items():
        node = tree
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = leaf
    return tree


def from_dict(recurrence: Recurrence, tree: Mapping[str, Any]) -> Any:
    """The params of `recurrence` from the nested dicts that `to_dict` makes of them.

        unroll(cell, from_dict(cell, variables["params"]["cell"]), xs)

    Raises ValueError if a name is missing, unknown, or of another shape.
    """
    shapes = jax.eval_shape(recurrence.init, jax.random.key(0))
    wanted, given = _named(shapes), _named(tree)
    if given.keys() != wanted.keys():
        raise ValueError(
            f"the parameters of {recurrence} are {_listed(wanted)}, got {_listed(given)}"
        )
    for names, leaf in wanted.items():
        if jnp.shape(given[names]) != leaf.shape:
            raise ValueError(
                f"{'/'.join(names)} must be {list(leaf.shape)} for {recurrence}, got "
                f"{list(jnp.shape(given[names]))}"
            )
    return jax.tree.unflatten(jax.tree.structure(shapes), [given[name] for name in wanted])


def _named(tree: Any) -> dict[tuple[str, ...], Any]:
    """The leaves of a tree by their path in it; a tree that is one array is "array"."""
    return {
        tuple(jax.tree_util.keystr((step,), simple=True) for step in path)
        or ("array",): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _listed(names: Mapping[tuple[str, ...], Any]) -> str:
    return ", ".join(sorted("/".join(name) for name in names)) or "none"


def _time_first(
    xs: Array, mask: Array | None, reset: Array | None, features: int
) -> tuple[Array, Array | None, Array | None]:
    """xs `[..., T, D]`, mask and reset `[..., T]` with time as their first axis; D stands
    for that many axes of `features`."""
    leading = xs.shape[: max(0, xs.ndim - features)]
    if not leading:
        raise ValueError(
            f"xs must be [..., T, D] with time_major=False, got shape {list(xs.shape)}"
        )
    for name, flags in (("mask", mask), ("reset", reset)):
        if flags is not None and flags.shape != leading:
            raise ValueError(
                f"{name} must be [..., T] = {list(leading)} for xs [..., T, D] of "
                f"shape {list(xs.shape)} with time_major=False, got {list(flags.shape)}"
            )
    mask, reset = (None if f is None else jnp.moveaxis(f, -1, 0) for f in (mask, reset))
    return jnp.moveaxis(xs, -1 - features, 0), mask, reset


def _batch(module: NNXCell | LinenCell, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    return input_shape[: -module.num_feature_axes]


def _as_variables(params: Any) -> Any:
    return nnx.data(jax.tree.map(nnx.Param, params))


def _as_arrays(params: Any) -> Any:
    return jax.tree.map(
        lambda p: p[...], params, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
    )
