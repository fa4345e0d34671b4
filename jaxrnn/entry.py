"""What people hand to a recurrence: keys, sizes, parameters, carries, inputs.

Each check returns what it was given as the recurrence takes it, or raises a ValueError
that says what was wanted and what was given. `Recurrence` has `init`, `initial_carry`,
`step` and `with_noise` of every subclass checked so, and `unroll` checks its own.
"""

import operator
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike


def checked(name: str, method: Callable) -> Callable:
    """A recurrence's method `name` behind the checks of its arguments."""

    def init(self: Any, key: Any, dtype: DTypeLike = jnp.float32) -> Any:
        return method(self, _key(key), _floating(dtype))

    def initial_carry(self: Any, params: Any, batch_shape: Any = ()) -> Any:
        return method(self, as_params(self, params), _shape(batch_shape))

    def step(self: Any, params: Any, carry: Any, x: Any) -> Any:
        params = as_params(self, params)
        x = as_numbers(params, x, "x")
        if not _ends_in(x, self.input_shape):
            wanted = _listed("...", *self.input_shape)
            raise ValueError(f"x must be {wanted} for {self}, got shape {list(x.shape)}")
        carry = as_carry(self, params, carry, leading_shape(self, x), exact=False)
        return method(self, params, carry, x)

    def with_noise(
        self: Any, params: Any, key: Any, length: Any, batch_shape: Any = ()
    ) -> Any:
        params, key, length = as_params(self, params), _key(key), as_length(length)
        return method(self, params, key, length, _shape(batch_shape))

    checks = {
        "init": init,
        "initial_carry": initial_carry,
        "step": step,
        "with_noise": with_noise,
    }
    return wraps(method)(checks[name])


CHECKED = ("init", "initial_carry", "step", "with_noise")


def as_params(recurrence: Any, params: Any) -> Any:
    """Parameters of the structure, shapes and kinds that `init` gives.

    Where `init` gives None a pass over time may put data of its own, such as noise.
    """
    if type(recurrence).__hash__ is None:
        raise ValueError(
            f"{type(recurrence).__name__} must be a dataclass with frozen=True: a cell is "
            "a constant of compiled programs"
        )
    want = _params_of(recurrence)
    try:
        leaves = want.tree.flatten_up_to(params)
    except ValueError:
        raise ValueError(
            f"params must be those of {recurrence}: {describe(want.whole)}; got "
            f"{describe(params)}"
        ) from None
    for i, leaf in enumerate(want.leaves):
        if leaf is None:
            continue
        got = leaves[i] = _as_array(leaves[i])
        if not _has_shape(got, leaf.shape) or _kind(got.dtype) != _kind(leaf.dtype):
            raise ValueError(
                f"params{want.paths[i]} must be {_kind(leaf.dtype)} {list(leaf.shape)} for "
                f"{recurrence}, got {describe(got)}"
            )
    return want.tree.unflatten(leaves)


def as_carry(
    recurrence: Any, params: Any, carry: Any, batch_shape: tuple, *, exact: bool = True
) -> Any:
    """A carry as `initial_carry` gives it; unless `exact`, numbers may be wider."""
    if all(type(size) is int for size in batch_shape):
        wide = jax.dtypes.canonicalize_dtype(np.float64)  # numbers of no dtype have this
        want = _carry_of(recurrence, _dtypes(recurrence, params), batch_shape, wide)
    else:  # exported for any batch
        want = jax.eval_shape(lambda p: recurrence.initial_carry(p, batch_shape), params)
    if jax.tree.structure(carry) != jax.tree.structure(want):
        raise ValueError(
            f"carry must be that of {recurrence}: {describe(want)}; got {describe(carry)}"
        )

    def check(path: Any, leaf: Any, got: Any) -> Any:
        got = _as_array(got)
        dtype = got.dtype if _has_shape(got, leaf.shape) else None
        if dtype != leaf.dtype and (exact or not _is_wider(dtype, leaf.dtype)):
            raise ValueError(
                f"carry{jax.tree_util.keystr(path)} must be {describe(leaf)}, got "
                f"{describe(got)}"
            )
        return got

    return jax.tree.map_with_path(check, want, carry)


def as_numbers(params: Any, x: Any, name: str) -> Array:
    """An array; integers and booleans in the dtype of the parameters."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "biu":
        x = x.astype(_dtype(params))  # before JAX narrows what has 64 bits
    x = as_array(x, name)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(_dtype(params))


def as_array(given: Any, name: str) -> Array:
    """What `jnp.asarray` takes; NaN too, which is what padding may hold."""
    try:
        with jax.debug_nans(False):
            return jnp.asarray(given)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array, got {given!r:.80}") from None


def check_xs(
    recurrence: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    checkpoint_every: int | None,
) -> tuple[int, ...]:
    """Returns the batch shape."""
    features = recurrence.input_shape
    timed = xs.ndim > len(features) and xs.shape[0] != 0
    if not timed or not _ends_in(xs, features):
        raise ValueError(
            f"xs must be {_listed('T', '...', *features)} with T of 1 or more for "
            f"{recurrence}, got shape {list(xs.shape)}"
        )
    leading = leading_shape(recurrence, xs)
    for name, flags in (("mask", mask), ("reset", reset)):
        if flags is None:
            continue
        if flags.dtype != bool:
            raise ValueError(f"{name} must be bool, got {flags.dtype}")
        if flags.shape != leading:
            raise ValueError(
                f"{name} must be [T, ...] = {list(leading)} for xs of shape "
                f"{list(xs.shape)}, got {list(flags.shape)}"
            )
    if checkpoint_every is not None and not _is_count(checkpoint_every):
        raise ValueError(
            f"checkpoint_every must be an integer of 1 or more, got {checkpoint_every!r}"
        )
    return leading[1:]


def leading_shape(recurrence: Any, x: Array) -> tuple[int, ...]:
    """The axes of x `[..., *input_shape]` before its features."""
    return x.shape[: x.ndim - len(recurrence.input_shape)]


def _ends_in(x: Array, features: tuple[int, ...]) -> bool:
    return x.ndim >= len(features) and x.shape[-len(features) :] == features


def _listed(*axes: Any) -> str:
    return f"[{', '.join(map(str, axes))}]"


def _is_count(number: Any) -> bool:
    return isinstance(number, int | np.integer) and number is not True and int(number) >= 1


def describe(tree: Any) -> str:
    """A tree of arrays in words: names, dtypes and shapes."""
    names = getattr(tree, "_fields", None)
    if names is not None:
        fields = (f"{n}={describe(leaf)}" for n, leaf in zip(names, tree, strict=True))
        return f"{type(tree).__name__}({', '.join(fields)})"
    if isinstance(tree, dict):
        fields = (f"{name!r}: {describe(leaf)}" for name, leaf in tree.items())
        return f"{{{', '.join(fields)}}}"
    if isinstance(tree, tuple | list):
        more = ", ..." if len(tree) > 8 else ""
        return f"{type(tree).__name__}({', '.join(map(describe, tree[:8]))}{more})"
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return f"{tree.dtype}{list(tree.shape)}"
    return f"{tree!r:.80}"


class _Wanted(NamedTuple):
    whole: Any
    tree: Any  # in which None is a leaf
    leaves: list
    paths: list[str]


@lru_cache(maxsize=256)
def _params_of(recurrence: Any) -> _Wanted:
    whole = jax.eval_shape(lambda: recurrence.init(jax.random.key(0)))
    leaves, tree = jax.tree.flatten_with_path(whole, is_leaf=lambda leaf: leaf is None)
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    return _Wanted(whole, tree, [leaf for _, leaf in leaves], paths)


@lru_cache(maxsize=256)
def _carry_of(
    recurrence: Any, dtypes: tuple, batch_shape: tuple[int, ...], wide: Any
) -> Any:
    want = _params_of(recurrence)
    params = want.tree.unflatten(
        None if leaf is None else jax.ShapeDtypeStruct(leaf.shape, dtype)
        for leaf, dtype in zip(want.leaves, dtypes, strict=True)
    )
    return jax.eval_shape(lambda p: recurrence.initial_carry(p, batch_shape), params)


def _dtypes(recurrence: Any, params: Any) -> tuple:
    want = _params_of(recurrence)
    leaves = want.tree.flatten_up_to(params)
    return tuple(
        None if leaf is None else got.dtype
        for leaf, got in zip(want.leaves, leaves, strict=True)
    )


def _dtype(params: Any) -> Any:
    """That of the first floating parameter."""
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(params))
    return next((d for d in dtypes if jnp.issubdtype(d, jnp.floating)), jnp.float32)


def _key(key: Any) -> Any:
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == np.uint32 and key.ndim == 1:  # of jax.random.PRNGKey
            return key
    raise ValueError(f"key must be one key, such as jax.random.key(0), got {key!r:.80}")


def _floating(dtype: Any) -> Any:
    try:
        if jnp.issubdtype(dtype, jnp.inexact):
            return dtype
    except TypeError:
        pass
    raise ValueError(f"parameters have a floating dtype, got {dtype!r}")


def _shape(batch_shape: Any) -> tuple:
    try:
        return tuple(map(_size, batch_shape))
    except TypeError:
        raise ValueError(
            f"batch_shape must be a tuple of integers, got {batch_shape!r:.80}"
        ) from None


def as_length(length: Any) -> Any:
    try:
        return _size(length)
    except TypeError:
        raise ValueError(f"length must be an integer, got {length!r:.80}") from None


def _size(size: Any) -> Any:
    """A plain int, or a size that is not known yet in an export."""
    return size if jax.export.is_symbolic_dim(size) else operator.index(size)


def _has_shape(got: Any, shape: tuple) -> bool:
    return hasattr(got, "dtype") and hasattr(got, "shape") and got.shape == shape


def _as_array(leaf: Any) -> Any:
    numbers = np.ndarray | np.generic | bool | int | float | complex
    return jnp.asarray(leaf) if isinstance(leaf, numbers) else leaf


def _kind(dtype: Any) -> str:
    kinds = {"floating": jnp.floating, "complex": jnp.complexfloating}
    kinds |= {"integer": jnp.integer, "bool": jnp.bool_}
    return next((k for k, of in kinds.items() if jnp.issubdtype(dtype, of)), str(dtype))


def _is_wider(got: Any, want: Any) -> bool:
    if got is None or _kind(got) != _kind(want) or not jnp.issubdtype(want, jnp.inexact):
        return False
    return jnp.finfo(got).bits > jnp.finfo(want).bits
