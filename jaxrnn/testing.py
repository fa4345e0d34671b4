"""The laws every recurrence keeps, and `check_cell`, which puts your own through them.

    from jaxrnn.testing import check_cell

    def test_my_cell_keeps_the_laws():
        check_cell(MyCell(3, 4))

A law is a function of a recurrence that raises AssertionError with one sentence: which
law broke, for whom, by how much, and what is likely to blame: its docstring. Sizes are
tiny. Laws about derivatives, masks and
strategies run in float64, where a difference is a mistake and not rounding.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial, wraps
from itertools import product
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from jaxrnn.arrays import cast_like, widen
from jaxrnn.cell import Cell, Composition, Recurrence
from jaxrnn.strategies import Chunkwise, Scan, Strategy
from jaxrnn.strategies.choose import STRATEGIES
from jaxrnn.strategies.select import select
from jaxrnn.unroll import explain, unroll

T, B = 6, 3
LONG = 1000  # steps after which what adds up in bfloat16 has lost its way

# One sequence a row, time to the right. The first ends early and has a reset after its
# end, the second has holes and a reset inside one, the third has no valid step.
MASK: Any = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], bool).T
RESET: Any = np.array([[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]], bool).T

# (mask, reset, reverse)
COMBINATIONS: Any = tuple(product((None, MASK), (None, RESET), (False, True)))


def check_cell(recurrence: Recurrence, *, progress: bool = True) -> None:
    """Puts a cell or a composition through every law, within a minute.

    With `progress`, standard error tells which law is being tried. Laws about single
    steps and about causality pass over a recurrence that cannot step. Raises
    AssertionError with one sentence for each broken law, ValueError for what is not a
    recurrence.
    """
    if not isinstance(recurrence, Recurrence):
        raise ValueError(f"check_cell takes a Cell or a Composition, got {recurrence!r}")
    broken = []
    for number, law in enumerate(LAWS, 1):
        if progress:
            what = f"{number} of {len(LAWS)}, {_words(law)}"
            print(f"{type(recurrence).__name__}: law {what}", file=sys.stderr, flush=True)
        try:
            law(recurrence)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))


def steps(recurrence: Recurrence) -> bool:
    """Whether a recurrence has single steps: a cell always; a composition unless its
    `step` raises ValueError, as that of a Bidirectional does."""
    if isinstance(recurrence, Cell):
        return True

    def first_step(key: Array) -> Any:
        params = recurrence.init(key)
        x = jnp.zeros(recurrence.input_shape, jnp.float32)
        return recurrence.step(params, recurrence.initial_carry(params), x)

    try:
        jax.eval_shape(first_step, jax.random.key(0))
    except ValueError:
        return False
    return True


def _law(number: int) -> Callable:
    """Makes whatever a law raises say which law it is, in the words of its name, and what
    is likely to blame."""

    def name(law: Callable[[Recurrence], None]) -> Callable[[Recurrence], None]:
        @wraps(law)
        def checked(recurrence: Recurrence) -> None:
            try:
                law(recurrence)
            except Exception as error:
                why = str(error).partition("\n")[0]
                if not isinstance(error, AssertionError):
                    why = f"it raised {type(error).__name__}: {why}"
                blame = " ".join((law.__doc__ or "").split())
                raise AssertionError(
                    f"{recurrence} breaks law {number}, {_words(law)}: {why}; {blame}"
                ) from error

        return checked

    return name


def _words(law: Callable) -> str:
    return law.__name__.replace("_", " ")


@_law(1)
def unroll_is_a_loop_of_step(recurrence: Recurrence) -> None:
    """likely `project` mixes time steps, or `step` is not `recur` after `project`"""
    if not steps(recurrence):
        return
    params, carry, xs = example(recurrence)
    last, ys = unroll(recurrence, params, xs, carry)
    for t in range(T):
        carry, y = _step(recurrence, params, carry, xs[t])
        _equal(ys[t], y, f"y of step {t}")
    _equal(last, carry, "the last carry")


@_law(2)
def unroll_can_stop_and_resume(recurrence: Recurrence) -> None:
    """likely the carry lacks something that the next step needs"""
    if not steps(recurrence):
        return
    params, carry, xs = example(recurrence)
    want = _unroll(recurrence, params, xs, carry, mask=MASK, reset=RESET)
    halves = []
    for half in (slice(0, T // 2), slice(T // 2, T)):
        carry, ys = _unroll(
            recurrence, params, xs[half], carry, mask=MASK[half], reset=RESET[half]
        )
        halves.append(ys)
    _equal((carry, np.concatenate(halves)), want, "(carry, ys) of two halves")


@_law(3)
def batch_axes_agree_with_vmap(recurrence: Recurrence) -> None:
    """likely an axis is counted from the front (0, 1) instead of the end (-1), or a sum
    or mean goes over the batch"""
    params, carry, xs = example(recurrence, batch_shape=(2, B))
    mask, reset = np.stack([MASK, RESET], axis=1), np.stack([RESET, MASK], axis=1)

    def run(carry: Any, xs: Array, mask: Any, reset: Any) -> Any:
        return unroll(recurrence, params, xs, carry, mask=mask, reset=reset)

    over_batch = partial(jax.vmap, in_axes=(0, 1, 1, 1), out_axes=(0, 1))
    want = run(carry, xs, mask, reset)
    for mapped in (over_batch(run), over_batch(over_batch(run))):
        got = _quick(mapped)(carry, xs, mask, reset)
        _equal(got, want, "(carry, ys) of a batch row")


@_law(4)
def shapes_and_dtypes_are_the_documented_ones(recurrence: Recurrence) -> None:
    """likely `initial_carry` leaves out `batch_shape` or the parameters' dtype, or
    `output_size` is another"""

    def shapes(dtype: DTypeLike, batch: tuple[int, ...], key: Array) -> Any:
        params = recurrence.init(key, dtype)
        xs = jnp.zeros((T, *batch, *recurrence.input_shape), dtype)
        return (
            params,
            recurrence.initial_carry(params),
            recurrence.initial_carry(params, batch),
            *unroll(recurrence, params, xs),
        )

    for dtype, batch in product((jnp.float32, jnp.bfloat16), ((), (3,), (2, 3))):
        params, alone, start, last, ys = jax.eval_shape(
            partial(shapes, dtype, batch), jax.random.key(0)
        )
        for path, leaf in jax.tree.leaves_with_path(params):
            where = f"the dtype of params{jax.tree_util.keystr(path)}"
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                _same(leaf.dtype, jnp.dtype(jnp.complex64), where)
            elif jnp.issubdtype(leaf.dtype, jnp.floating):
                _same(leaf.dtype, jnp.dtype(dtype), where)
        _same(_types(start), _types(alone, batch), f"initial_carry of batch {batch}")
        _same(_types(last), _types(start), "the carry after unroll")
        y = jax.ShapeDtypeStruct(recurrence.output_shape, dtype)
        _same(_types(ys), _types(y, (T, *batch)), "ys")


@_law(5)
def gradients_agree_with_finite_differences(recurrence: Recurrence) -> None:
    """likely a `stop_gradient`, a derivative written by hand, or a function with a
    corner"""
    with jax.enable_x64(True):
        inputs = example(recurrence, dtype=jnp.float64)
        run = partial(_value_and_gradients, recurrence, "auto", None, False)
        _, gradients = run(inputs, MASK, RESET)
        leaves, tree = jax.tree.flatten(inputs)
        for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(inputs)):
            if gradients[i] is None:
                continue
            move = 1e-6 * _weights(leaf)
            values = []
            for moved in (leaf + move, leaf - move):
                inputs = jax.tree.unflatten(tree, [*leaves[:i], moved, *leaves[i + 1 :]])
                values.append(_weighted_sum(run(inputs, MASK, RESET)[0]))
            # JAX's gradient by a complex number is d/d(real) - i d/d(imaginary).
            slope = jnp.sum((gradients[i] * move).real) / 1e-6
            difference = (values[0] - values[1]) / 2e-6
            name = type(inputs)._fields[path[0].idx] if hasattr(path[0], "idx") else ""
            where = f"{name}{jax.tree_util.keystr(path)}"
            _equal(slope, difference, f"the derivative by {where}", 1e-6)


@_law(6)
def no_output_depends_on_later_inputs(recurrence: Recurrence) -> None:
    """likely `project` takes a sum, mean or cumulative product over time"""
    if not steps(recurrence):
        return
    params, carry, xs = example(recurrence)
    _, want = _unroll(recurrence, params, xs, carry)
    for t in range(1, T):
        changed = np.array(xs)
        changed[t:] *= -3
        _, ys = _unroll(recurrence, params, jnp.asarray(changed), carry)
        _equal(ys[:t], want[:t], f"ys before step {t}, with x changed from there on,")


@_law(7)
def an_equal_recurrence_does_not_retrace(recurrence: Recurrence) -> None:
    """likely it is not a frozen dataclass that compares by value, or holds an array"""
    traced = []

    def run(recurrence: Recurrence, params: Any, xs: Array) -> Any:
        traced.append(recurrence)
        return unroll(recurrence, params, xs)

    params, _, xs = example(recurrence)
    compiled = jax.jit(run, static_argnums=0)
    for equal in (recurrence, copy.deepcopy(recurrence)):
        compiled.eval_shape(equal, params, xs)
    assert len(traced) == 1, "a copy of it is another static argument to jit"


@_law(8)
def bfloat16_in_bfloat16_out(recurrence: Recurrence) -> None:
    """likely a constant or a NumPy array is float32 where the parameters are not: give
    it their dtype"""
    wide = example(recurrence)
    narrow = example(recurrence, dtype=jnp.bfloat16)
    # Strict: where bfloat16 meets float32 unasked, JAX raises instead of widening.
    with jax.numpy_dtype_promotion("strict"):
        last, ys = _unroll(recurrence, narrow.params, narrow.xs, mask=MASK)
    _same(ys.dtype, jnp.dtype(jnp.bfloat16), "the dtype of ys")
    _same(_types(last), _types(narrow.carry), "the last carry")
    if steps(recurrence):
        after, y = jax.eval_shape(recurrence.step, *narrow[:2], narrow.xs[0])
        _same(y.dtype, jnp.dtype(jnp.bfloat16), "the dtype of y of a step")
        _same(_types(after), _types(narrow.carry), "the carry after a step")
    _, want = _unroll(recurrence, wide.params, wide.xs, mask=MASK)
    _equal(ys.astype(jnp.float32), want, "ys in bfloat16", 0.05)


@_law(9)
def masks_resets_and_reverse_are_a_loop_over_rows(recurrence: Recurrence) -> None:
    """likely rows of the batch see one another, or `initial_carry` is not a pure
    function of the params"""
    with jax.enable_x64(True):
        params, carry, xs = example(recurrence, dtype=jnp.float64)
        for mask, reset, reverse in COMBINATIONS:
            got = _unroll(
                recurrence,
                params,
                _padded(xs, mask),
                carry,
                mask=mask,
                reset=reset,
                reverse=reverse,
            )
            want = loop(recurrence, params, carry, xs, mask, reset, reverse)
            _equal(got, want, f"(carry, ys) with {_name(mask, reset, reverse)}", 1e-10)


@_law(10)
def all_strategies_agree(recurrence: Recurrence) -> None:
    """likely `gate` or `mix` depends on more than its arguments, or has a derivative of
    its own"""
    strategies = _strategies(recurrence)
    with jax.enable_x64(True):
        params, carry, xs = example(recurrence, dtype=jnp.float64)
        for mask, reset, reverse in COMBINATIONS:
            inputs = Example(params, carry, _padded(xs, mask))
            # Flags that change nothing stand for none, so that a strategy is compiled
            # twice and not eight times; once it runs without any as well.
            valid = np.ones_like(MASK) if mask is None else mask
            begins = np.zeros_like(RESET) if reset is None else reset
            ways = [(strategy, None, valid, begins) for strategy in strategies]
            if mask is None and reset is None and not reverse:
                ways += [(strategy, None, None, None) for strategy in strategies]
            if mask is not None and reset is not None:
                ways += [("auto", 4, mask, reset)]
            want = _value_and_gradients(
                recurrence, Scan(), None, reverse, inputs, valid, begins
            )
            for strategy, every, *flags in ways:
                got = _value_and_gradients(
                    recurrence, strategy, every, reverse, inputs, *flags
                )
                what = f"values and gradients with {_name(mask, reset, reverse)}"
                how = f"strategy {strategy!r}, checkpoint_every {every}"
                _equal(got, want, f"{what}, {how},", 1e-9)


@_law(12)
def bfloat16_stays_near_float64_over_time(recurrence: Recurrence) -> None:
    """likely `widen` leaves a carry narrow that adds up over time, or `recur` narrows it"""
    # Both take the very same numbers, so that only what rounds on the way differs.
    params = example(recurrence, dtype=jnp.bfloat16).params
    random = np.random.default_rng(0)
    shape = (LONG, 1, *recurrence.input_shape)
    xs = jnp.asarray(random.normal(size=shape), jnp.bfloat16)
    got = _long_gradient(recurrence, params, xs)
    with jax.enable_x64(True):
        params, xs = jax.tree.map(_widest, (params, xs))
        want = _long_gradient(recurrence, params, xs)
        # How much any rounding matters to this recurrence: some are chaotic.
        nearby = jax.tree.map(lambda a: _moved(a, random, 2**-9), (params, xs))
        moved = _long_gradient(recurrence, *nearby)
    for (path, a), b, c in zip(
        jax.tree.leaves_with_path(got), *map(jax.tree.leaves, (want, moved)), strict=True
    ):
        a, b, c = (np.asarray(leaf).astype(np.asarray(b).dtype) for leaf in (a, b, c))
        size = np.linalg.norm(b) or 1
        off = np.linalg.norm(a - b) / size
        allowed = 0.02 + 8 * np.linalg.norm(c - b) / size
        where = "ys" if path[0].idx == 0 else f"gradient {path[1].idx} by params"
        assert off <= allowed, f"{where} off by {off:.1%}, tolerance {allowed:.1%}"


@_law(13)
def an_array_cut_over_a_mesh_is_run_where_it_lies(recurrence: Recurrence) -> None:
    """likely an array is made inside a step, by `jnp.zeros` say, that does not vary as the
    inputs do: make it of them, by `jnp.zeros_like`"""
    params, _, xs = example(recurrence)
    inputs = (xs, jnp.asarray(MASK), jnp.asarray(RESET))
    whole, cut = PartitionSpec(), PartitionSpec(None, "data")

    def gradient(params: Any, xs: Array, mask: Array, reset: Array) -> list[Array]:
        def loss(params: Any) -> Array:
            return _weighted_sum(unroll(recurrence, params, xs, mask=mask, reset=reset))

        gradients = jax.tree.leaves(jax.grad(loss, allow_int=True)(params))
        return [g for g in gradients if g.dtype != jax.dtypes.float0]

    def on(mesh: Mesh, spec: PartitionSpec, tree: Any) -> Any:
        lies = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=lies), tree
        )

    # Types are all that may disagree, and a mesh of one device has them.
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(
        gradient, mesh=mesh, in_specs=(whole, cut, cut, cut), out_specs=whole
    )
    jax.eval_shape(mapped, params, *inputs)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        jax.eval_shape(gradient, on(mesh, whole, params), *on(mesh, cut, inputs))


LAWS = (
    unroll_is_a_loop_of_step,
    unroll_can_stop_and_resume,
    batch_axes_agree_with_vmap,
    shapes_and_dtypes_are_the_documented_ones,
    gradients_agree_with_finite_differences,
    no_output_depends_on_later_inputs,
    an_equal_recurrence_does_not_retrace,
    bfloat16_in_bfloat16_out,
    masks_resets_and_reverse_are_a_loop_over_rows,
    all_strategies_agree,
    bfloat16_stays_near_float64_over_time,
    an_array_cut_over_a_mesh_is_run_where_it_lies,
)


class Example(NamedTuple):
    params: Any
    carry: Any  # one that is reached after some steps, for not every carry makes sense
    xs: Array  # [T, *batch_shape, D]


@lru_cache(maxsize=4)
def example(
    recurrence: Recurrence,
    batch_shape: tuple[int, ...] = (B,),
    dtype: DTypeLike = jnp.float32,
) -> Example:
    """The same numbers in every dtype, with noise where `init` writes constants."""
    random = np.random.default_rng(0)

    def noisy(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return leaf + jnp.asarray(0.1 * random.normal(size=leaf.shape), leaf.dtype)

    # Drawn once in float32: a dtype may draw other numbers, which is init's affair.
    drawn = recurrence.init(jax.random.key(0))
    types = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), dtype))
    params = jax.tree.map(noisy, cast_like(drawn, types))
    shape = (T, *batch_shape, *recurrence.input_shape)
    before, xs = (jnp.asarray(random.normal(size=shape), dtype) for _ in range(2))
    carry, _ = unroll(recurrence, params, before, strategy="scan")
    return Example(params, carry, xs)


def loop(
    recurrence: Recurrence,
    params: Any,
    carry: Any,
    xs: Array,
    mask: Any,
    reset: Any,
    reverse: bool,
) -> tuple[Any, Any]:
    """What `unroll` means: one row, one step at a time, with Python's own `if`.

    xs `[T, B, D]`. A composition that cannot step has each of its parts looped.
    """
    valid = np.ones(xs.shape[:2], bool) if mask is None else mask
    begins = np.zeros(xs.shape[:2], bool) if reset is None else reset
    if not steps(recurrence):
        assert isinstance(recurrence, Composition)

        def run(
            part: Recurrence, params: Any, carry: Any, xs: Array, against: bool = False
        ) -> tuple[Any, Any]:
            return loop(part, params, carry, xs, mask, reset, reverse != against)

        last, ys = recurrence.over_time(run, params, carry, xs)
        return last, np.asarray(select(jnp.asarray(valid), ys, jnp.zeros_like(ys)))

    xs, carry = jax.tree.map(np.asarray, (xs, carry))
    lasts, ys = [], np.zeros((*xs.shape[:2], *recurrence.output_shape), xs.dtype)
    for row in range(xs.shape[1]):
        now = jax.tree.map(lambda leaf, row=row: leaf[row], carry)
        for t in reversed(range(len(xs))) if reverse else range(len(xs)):
            if reverse:
                fresh = t + 1 < len(xs) and begins[t + 1, row]
            else:
                fresh = begins[t, row]
            if fresh:
                now = recurrence.initial_carry(params)
            if valid[t, row]:
                now, ys[t, row] = _step(recurrence, params, now, xs[t, row])
        lasts.append(now)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *lasts), ys


# Most of a law's time is compilation, so most laws have XLA optimise nothing.
_quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
_unroll = _quick(unroll, static_argnums=0, static_argnames="reverse")


@partial(jax.jit, static_argnums=0)
def _step(recurrence: Recurrence, params: Any, carry: Any, x: Array) -> Any:
    return recurrence.step(params, carry, x)


@partial(_quick, static_argnums=(0, 1, 2, 3))
def _value_and_gradients(
    recurrence: Recurrence,
    strategy: Strategy | Literal["auto"],
    checkpoint_every: int | None,
    reverse: bool,
    inputs: Example,
    mask: Array | None,
    reset: Array | None,
) -> tuple[Any, list[Array | None]]:
    """(carry, ys), and the gradients of a weighted sum of them by every leaf of `inputs`
    (None for one that is not differentiable)."""
    leaves, tree = jax.tree.flatten(inputs)

    def loss(moving: list[Array | None]) -> Any:
        whole = [b if a is None else a for a, b in zip(moving, leaves, strict=True)]
        params, carry, xs = jax.tree.unflatten(tree, whole)
        outputs = unroll(
            recurrence,
            params,
            xs,
            carry,
            mask=mask,
            reset=reset,
            reverse=reverse,
            strategy=strategy,
            checkpoint_every=checkpoint_every,
        )
        return _weighted_sum(outputs), outputs

    moving = [a if jnp.issubdtype(a.dtype, jnp.inexact) else None for a in leaves]
    gradients, outputs = jax.grad(loss, has_aux=True)(moving)
    return outputs, gradients


@partial(_quick, static_argnums=0)
def _long_gradient(recurrence: Recurrence, params: Any, xs: Array) -> tuple[Array, list]:
    """ys, and the gradients by all params of a sum of them that weighs every step alike,
    so that what steps contribute does not cancel."""

    def loss(params: Any) -> tuple[Array, Array]:
        _, ys = unroll(recurrence, params, xs)
        wide = widen(ys)
        return jnp.sum(wide * _weights(wide[0])), ys

    gradients, ys = jax.grad(loss, has_aux=True, allow_int=True)(params)
    return ys, [g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0]


def _widest(leaf: Array) -> Array:
    """The same numbers in float64."""
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if real else leaf


def _moved(leaf: Array, random: np.random.Generator, by: float) -> Array:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    return leaf * jnp.asarray(1 + by * random.uniform(-1, 1, leaf.shape), leaf.dtype)


def _weighted_sum(tree: Any) -> Array:
    leaves = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.stack([jnp.sum((_weights(a) * a).real) for a in leaves]).sum()


def _weights(leaf: Array) -> Array:
    random = np.random.default_rng(leaf.size)
    weights = random.normal(size=(2, *leaf.shape))
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return jnp.asarray(weights[0] + 1j * weights[1], leaf.dtype)
    return jnp.asarray(weights[0], leaf.dtype)


def _strategies(recurrence: Recurrence) -> list[Strategy | Literal["auto"]]:
    """What there is to compare with `Scan`: the strategies that serve every cell of the
    recurrence, and "auto" where it takes several."""
    blocks = Chunkwise(length=T // 2)  # two of them
    known = [blocks if s == Chunkwise() else s for s in STRATEGIES.values()]
    serving = [[s for s in known if _serves(s, cell)] for cell in _cells(recurrence)]
    common = [s for s in known if s != Scan() and all(s in those for those in serving)]
    return [*common, "auto"] if any(those != serving[0] for those in serving) else common


def _serves(strategy: Strategy, cell: Cell) -> bool:
    try:
        explain(cell, strategy=strategy)
    except ValueError:
        return False
    return True


def _cells(recurrence: Recurrence) -> Iterator[Cell]:
    if isinstance(recurrence, Cell):
        yield recurrence
    if isinstance(recurrence, Composition):
        for part in recurrence.parts:
            yield from _cells(part)


def _padded(xs: Array, mask: Any) -> Array:
    return select(mask, xs, jnp.full_like(xs, jnp.nan))


def _name(mask: Any, reset: Any, reverse: bool) -> str:
    given = {"mask": mask is not None, "reset": reset is not None, "reverse": reverse}
    return " and ".join(name for name, yes in given.items() if yes) or "no options"


def _types(tree: Any, batch_shape: tuple[int, ...] = ()) -> Any:
    return jax.tree.map(lambda a: f"{a.dtype}{[*batch_shape, *a.shape]}", tree)


def _same(got: Any, want: Any, what: str) -> None:
    assert got == want, f"{what}: {got}, expected {want}"


def _equal(got: Any, want: Any, what: str, tolerance: float = 1e-5) -> None:
    """Equal but for rounding, relative to the largest number of a leaf (or to 1)."""
    _same(jax.tree.structure(got), jax.tree.structure(want), f"the structure of {what}")
    pairs = zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True)
    for (path, a), b in pairs:
        a, b = np.asarray(a), np.asarray(b)
        where = what + jax.tree_util.keystr(path)
        _same(a.shape, b.shape, f"the shape of {where}")
        # Equal infinities are equal; a NaN is nothing's equal.
        off = np.abs(np.where(a == b, 0, a - b)).max(initial=0)
        off /= max(1, np.abs(b).max(initial=0))
        assert off <= tolerance, f"{where} off by {off:.1e}, tolerance {tolerance:.0e}"
