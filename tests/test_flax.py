"""The adapters inside Flax's own modules give the numbers of `unroll`."""

import inspect
import pydoc
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx, traverse_util

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    Highway,
    LearnedStart,
    Slower,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
    length_mask,
    unroll,
)
from jaxrnn.cells.elman import ElmanCarry
from jaxrnn.cells.lstm import LSTMParams
from jaxrnn.flax import RNN, LinenCell, NNXCell, from_dict, to_dict

B, T = 2, 5
XS = jax.random.normal(jax.random.key(0), (B, T, 3))  # batch first, as Flax has it
LENGTHS = jnp.array([5, 3])
STEPPING = [LSTM(3, 4), GRU(3, 4), Stack((LSTM(3, 4), Elman(4, 4)))]


def batch_first(recurrence, params, xs=XS, **options):
    carry, ys = unroll(recurrence, params, xs.swapaxes(0, 1), **options)
    return carry, ys.swapaxes(0, 1)


def arrays(params):
    return jax.tree.map(
        lambda leaf: leaf[...], params, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
    )


@pytest.mark.parametrize("recurrence", STEPPING, ids=repr)
def test_nnx_rnn_runs_any_cell(recurrence):
    cell = NNXCell(recurrence, rngs=nnx.Rngs(0))
    rnn = nnx.RNN(cell, return_carry=True)
    got = nnx.jit(lambda rnn, xs: rnn(xs))(rnn, XS)
    want = batch_first(recurrence, arrays(cell.params))
    chex.assert_shape(got[1], (B, T, 4))
    chex.assert_trees_all_close(got, want, atol=1e-6)


def test_nnx_rnn_differentiates_a_cell():
    cell = NNXCell(LSTM(3, 4), rngs=nnx.Rngs(0))
    # Flax's own RNN holds random state too.
    graph, params, rest = nnx.split(nnx.RNN(cell), nnx.Param, ...)

    @jax.jit
    def gradients(params):
        return jax.grad(lambda p: jnp.sum(nnx.merge(graph, p, rest)(XS) ** 2))(params)

    def loss(params):
        return jnp.sum(batch_first(LSTM(3, 4), params)[1] ** 2)

    want = jax.grad(loss)(arrays(cell.params))
    got = gradients(params)["cell"]["params"]
    got = LSTMParams(*(got[name][...] for name in LSTMParams._fields))
    chex.assert_trees_all_close(got, want, atol=1e-5)


def test_nnx_bidirectional_runs_two_cells():
    ahead, back = (NNXCell(GRU(3, 4), rngs=nnx.Rngs(seed)) for seed in (0, 1))
    rnn = nnx.Bidirectional(nnx.RNN(ahead), nnx.RNN(back))
    got = rnn(XS, seq_lengths=LENGTHS)
    params = (arrays(ahead.params), arrays(back.params))
    both = Bidirectional(GRU(3, 4), GRU(3, 4))
    mask = length_mask(LENGTHS, T)
    _, want = batch_first(both, params, mask=mask)
    valid = mask.T[..., None]
    # Flax runs on through the padding; up to each length the two agree.
    chex.assert_trees_all_close(jnp.where(valid, got, 0), want, atol=1e-6)


@pytest.mark.parametrize("recurrence", STEPPING, ids=repr)
def test_linen_rnn_runs_any_cell(recurrence):
    rnn = linen.RNN(LinenCell(recurrence), return_carry=True)
    variables = rnn.init(jax.random.key(1), XS)
    params = from_dict(recurrence, variables["params"]["cell"])
    got = jax.jit(rnn.apply)(variables, XS)
    chex.assert_trees_all_close(got, batch_first(recurrence, params), atol=1e-6)


def test_linen_rnn_differentiates_a_cell():
    rnn = linen.RNN(LinenCell(GRU(3, 4)))
    variables = rnn.init(jax.random.key(1), XS)
    got = jax.jit(jax.grad(lambda v: jnp.sum(rnn.apply(v, XS) ** 2)))(variables)
    want = jax.grad(lambda p: jnp.sum(batch_first(GRU(3, 4), p)[1] ** 2))(
        from_dict(GRU(3, 4), variables["params"]["cell"])
    )
    chex.assert_trees_all_close(got["params"]["cell"], to_dict(want), atol=1e-5)


def test_linen_rnn_begins_with_a_learned_start_and_learns_it():
    cell = LearnedStart(LSTM(3, 4))
    rnn = linen.RNN(LinenCell(cell), return_carry=True)
    variables = rnn.init(jax.random.key(1), XS)
    moved = jax.tree.map(lambda leaf: leaf + 0.3, variables)
    params = from_dict(cell, moved["params"]["cell"])
    got = jax.jit(rnn.apply)(moved, XS)
    chex.assert_trees_all_close(got, batch_first(cell, params), atol=1e-6)

    got = jax.jit(jax.grad(lambda v: jnp.sum(rnn.apply(v, XS)[1] ** 2)))(moved)
    want = jax.grad(lambda p: jnp.sum(batch_first(cell, p)[1] ** 2))(params)
    assert all(jnp.any(leaf != 0) for leaf in want.start)
    chex.assert_trees_all_close(got["params"]["cell"], to_dict(want), atol=1e-5)


def test_an_lstm_equals_the_optimized_lstm_of_linen_value_and_gradient():
    peer = linen.RNN(linen.OptimizedLSTMCell(4), return_carry=True)
    variables = peer.init(jax.random.key(2), XS)

    def ours(theirs):
        (parts,) = theirs["params"].values()
        return LSTMParams(
            w_x=jnp.concatenate([parts[f"i{gate}"]["kernel"] for gate in "ifgo"], axis=1),
            w_h=jnp.concatenate([parts[f"h{gate}"]["kernel"] for gate in "ifgo"], axis=1),
            b=jnp.concatenate([parts[f"h{gate}"]["bias"] for gate in "ifgo"]),
        )

    # Fresh biases are zero: noise, so that every gate's own is seen.
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    variables = tree.unflatten(
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    )

    (c, h), ys = peer.apply(variables, XS)
    carry, our_ys = batch_first(LSTM(3, 4), ours(variables))
    chex.assert_trees_all_close((carry.h, carry.c, our_ys), (h, c, ys), atol=1e-5)

    theirs = jax.grad(lambda v: jnp.sum(peer.apply(v, XS)[1] ** 2))(variables)
    got = jax.grad(lambda p: jnp.sum(batch_first(LSTM(3, 4), p)[1] ** 2))(ours(variables))
    chex.assert_trees_all_close(got, ours(theirs), atol=1e-5)


def test_the_nnx_module_takes_what_unroll_takes():
    both = Bidirectional(LSTM(3, 4), GRU(3, 4))
    rnn = RNN(both, rngs=nnx.Rngs(0))
    params = arrays(rnn.params)
    xs = XS.swapaxes(0, 1)
    mask = length_mask(LENGTHS, T)
    reset = jnp.zeros_like(mask).at[2].set(True)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, rnn.initial_carry((B,)))
    got = nnx.jit(lambda rnn, *inputs: rnn(inputs[0], inputs[1], mask=mask, reset=reset))(
        rnn, xs, carry
    )
    want = unroll(both, params, xs, carry, mask=mask, reset=reset)
    chex.assert_trees_all_close(got, want, atol=1e-6)


def test_the_nnx_module_draws_the_noise_of_a_pass_from_its_key():
    stack = Stack((WeightDrop(LSTM(3, 4), 0.5), Zoneout(GRU(4, 4), 0.3)))
    rnn, xs, key = RNN(stack, rngs=nnx.Rngs(0)), XS.swapaxes(0, 1), jax.random.key(7)
    noisy = stack.with_noise(rnn.arrays(), key, T, (B,))
    chex.assert_trees_all_equal(rnn(xs, key=key), unroll(stack, noisy, xs))
    chex.assert_trees_all_equal(rnn(xs), unroll(stack, rnn.arrays(), xs))


def test_the_nnx_module_is_differentiated_and_holds_parameters_only():
    rnn = RNN(Stack((LSTM(3, 4), GRU(4, 4))), rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)
    assert not jax.tree.leaves(rest)

    @jax.jit
    def gradients(params, xs):
        return jax.grad(lambda p: jnp.sum(nnx.merge(graph, p, rest)(xs)[1] ** 2))(params)

    bars = gradients(params, XS.swapaxes(0, 1))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(bars))


def test_parameters_are_drawn_in_the_dtype_asked_for():
    rnn = RNN(LSTM(3, 4), rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    _, ys = rnn(jnp.ones((T, 3), jnp.bfloat16))
    assert ys.dtype == jnp.bfloat16
    cell = LinenCell(LSTM(3, 4), param_dtype=jnp.bfloat16)
    x = jnp.ones((B, 3), jnp.bfloat16)
    variables = cell.init(
        jax.random.key(0), cell.initialize_carry(jax.random.key(0), x.shape), x
    )
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(variables))


class Pair(NamedTuple):
    a: jax.Array
    twice: jax.Array


@dataclass(frozen=True)
class Agreeing(Elman):
    """Its parameters must be drawn together: one is a function of another."""

    def init(self, key, dtype=jnp.float32):
        a = jax.random.normal(key, (self.input_size,), dtype)
        return Pair(a, 2 * a)

    def initial_carry(self, params, batch_shape=()):
        return ElmanCarry(jnp.zeros((*batch_shape, self.input_size)))

    def step(self, params, carry, x):
        return ElmanCarry(carry.h + params.a * x), carry.h


def linen_variables(recurrence):
    cell, x = LinenCell(recurrence), XS[:, 0]
    return cell, cell.init(jax.random.key(1), cell.initialize_carry(None, x.shape), x)


def paths(tree):
    return {"/".join(map(str, path)) for path in traverse_util.flatten_dict(tree)}


DEEP = Stack((LearnedStart(GRU(3, 4)), Highway(VariationalDropout(Elman(4, 4), 0.5))))
DEEP_PATHS = {
    *(f"0/cell/{name}" for name in ("w_x", "w_h", "b", "b_n")),
    "0/start/h",
    *(f"1/0/cell/{name}" for name in ("w_x", "w_h", "b")),
    *(f"1/1/{name}" for name in ("w", "b")),
}


def test_linen_parameters_are_plain_dicts_of_arrays_by_name():
    _, variables = linen_variables(LSTM(3, 4))
    assert paths(variables["params"]) == {"w_x", "w_h", "b"}
    cell, variables = linen_variables(DEEP)
    assert paths(variables["params"]) == DEEP_PATHS
    for leaf in traverse_util.flatten_dict(variables["params"]).values():
        assert isinstance(leaf, jax.Array)
    params = from_dict(DEEP, variables["params"])
    assert jax.tree.structure(params) == jax.tree.structure(DEEP.init(jax.random.key(0)))
    chex.assert_trees_all_equal(to_dict(params), variables["params"])


def test_linen_parameters_are_drawn_together():
    cell, variables = linen_variables(Agreeing(3, 3))
    params = variables["params"]
    chex.assert_trees_all_equal(params["twice"], 2 * params["a"])


@pytest.mark.parametrize("recurrence", [LSTM(3, 4), DEEP], ids=["cell", "composition"])
def test_a_linen_cell_at_top_level_applies_what_it_initialises(recurrence):
    cell, variables = linen_variables(recurrence)
    x = XS[:, 0]
    carry = cell.initialize_carry(None, x.shape)
    got = cell.apply(variables, carry, x)
    want = recurrence.step(from_dict(recurrence, variables["params"]), carry, x)
    chex.assert_trees_all_close(got, want, atol=1e-6)


def test_linen_scan_of_a_cell_is_unroll():
    over_time = linen.scan(
        LinenCell,
        variable_broadcast="params",
        split_rngs={"params": False},
        in_axes=1,
        out_axes=1,
    )(LSTM(3, 4))
    carry = over_time.initialize_carry(None, XS[:, 0].shape)
    variables = over_time.init(jax.random.key(0), carry, XS)
    got = jax.jit(over_time.apply)(variables, carry, XS)
    params = from_dict(LSTM(3, 4), variables["params"])
    chex.assert_trees_all_close(got, batch_first(LSTM(3, 4), params), atol=1e-6)


def test_linen_parameters_of_another_kind_are_refused_by_name():
    cell, variables = linen_variables(LSTM(3, 4))
    x = XS[:, 0]
    carry = cell.initialize_carry(None, x.shape)
    wide = {"params": variables["params"] | {"w_h": jnp.ones((5, 20))}}
    with pytest.raises(ValueError, match=r"w_h must be \[4, 16\] for LSTM.*got \[5, 20\]"):
        cell.apply(wide, carry, x)
    with pytest.raises(ValueError, match="of GRU.* are b, b_n, w_h, w_x, got b, w_h, w_x"):
        from_dict(GRU(3, 4), variables["params"])


def test_weight_decay_is_masked_by_path_in_linen_and_in_nnx():
    rnn = linen.RNN(LinenCell(DEEP))
    params = rnn.init(jax.random.key(1), XS)["params"]
    ours = nnx.to_pure_dict(nnx.state(RNN(DEEP, rngs=nnx.Rngs(0))))["params"]
    assert paths(ours) == DEEP_PATHS
    for tree in (params, ours):
        mask = traverse_util.path_aware_map(lambda path, _: path[-1] == "w_h", tree)
        decay = optax.masked(optax.add_decayed_weights(1.0), mask)
        zeros = jax.tree.map(jnp.zeros_like, tree)
        updates, _ = decay.update(zeros, decay.init(tree), tree)
        for path, update in traverse_util.flatten_dict(updates).items():
            assert bool(jnp.any(update != 0)) == (path[-1] == "w_h")


def test_linen_tabulates_a_cell_by_the_names_of_its_parameters():
    rnn, plain = linen.RNN(LinenCell(LSTM(3, 4))), {"force_terminal": False, "width": 120}
    table = rnn.tabulate(jax.random.key(0), XS, console_kwargs=plain)
    assert "w_x: float32[3,16]" in table


def test_some_variables_of_an_nnx_module_are_restored_by_path():
    rnn, other = (RNN(DEEP, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    nnx.update(rnn, nnx.state(other, nnx.PathContains("w_h")))
    for (path, mine), (_, theirs) in zip(
        nnx.to_flat_state(nnx.state(rnn)), nnx.to_flat_state(nnx.state(other)), strict=True
    ):
        if path[-1] in ("w_h", "w_x"):
            assert bool(jnp.all(mine[...] == theirs[...])) == (path[-1] == "w_h")


LINEN_TRANSFORMS = {
    "jit": linen.jit,
    "remat": linen.remat,
    "vmap": partial(
        linen.vmap,
        variable_axes={"params": None},
        split_rngs={"params": False},
        in_axes=0,
    ),
}


@pytest.mark.parametrize("transform", LINEN_TRANSFORMS)
@pytest.mark.parametrize("lifted", ["RNN", "cell"])
def test_linen_cells_run_inside_linens_transforms(transform, lifted):
    lift = LINEN_TRANSFORMS[transform]
    if lifted == "RNN":
        rnn = lift(linen.RNN)(LinenCell(LSTM(3, 4)))
    else:
        rnn = linen.RNN(lift(LinenCell)(LSTM(3, 4)))
    variables = rnn.init(jax.random.key(1), XS)
    params = from_dict(LSTM(3, 4), variables["params"]["cell"])
    _, want = batch_first(LSTM(3, 4), params)
    chex.assert_trees_all_close(rnn.apply(variables, XS), want, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
def test_both_flax_rnns_agree_with_unroll_on_lengths_order_and_carry(reverse):
    lstm = LSTM(3, 4)
    how = {
        "seq_lengths": LENGTHS,
        "reverse": reverse,
        "keep_order": True,
        "return_carry": True,
    }
    rnn = linen.RNN(LinenCell(lstm))
    variables = rnn.init(jax.random.key(1), XS)
    params = from_dict(lstm, variables["params"]["cell"])
    mask = length_mask(LENGTHS, T)
    want = batch_first(lstm, params, mask=mask, reverse=reverse)
    cell = NNXCell(lstm, rngs=nnx.Rngs(0))
    jax.tree.map(
        lambda variable, x: variable.set_value(x),
        cell.params,
        params,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Param),
    )
    for carry, ys in (rnn.apply(variables, XS, **how), nnx.RNN(cell)(XS, **how)):
        # Flax runs on through the padding.
        ys = jnp.where(mask.T[..., None], ys, 0)
        chex.assert_trees_all_close((carry, ys), want, atol=1e-6)


def test_nnx_modules_are_mapped_and_scanned_over_layers():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return RNN(GRU(3, 3), rngs=rngs)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def through(xs, layer):
        return layer(xs)[1]

    layers, xs = make(nnx.Rngs(0)), XS.swapaxes(0, 1)
    stacked = layers.arrays()
    chex.assert_shape(stacked.w_h, (3, 3, 9))
    each = [jax.tree.map(lambda leaf, k=k: leaf[k], stacked) for k in range(3)]
    _, want = unroll(Stack((GRU(3, 3),) * 3), tuple(each), xs)
    chex.assert_trees_all_close(nnx.jit(through)(xs, layers), want, atol=1e-6)
    alone = nnx.vmap(lambda layer, xs: layer(xs)[1], in_axes=(0, None))(layers, xs)
    chex.assert_trees_all_close(alone[2], unroll(GRU(3, 3), each[2], xs)[1], atol=1e-6)


def test_an_nnx_cell_draws_its_carry_by_carry_init():
    cell = NNXCell(Stack((LSTM(3, 4), Elman(4, 5))), rngs=nnx.Rngs(0))
    normal = nnx.initializers.normal(1.0)
    start = cell.initialize_carry((2, 3), nnx.Rngs(0))
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(start))
    for rngs in (nnx.Rngs(0), nnx.Rngs(0).carry):
        drawn = cell.initialize_carry((2, 3), rngs, carry_init=normal)
        chex.assert_trees_all_equal_shapes_and_dtypes(drawn, start)
        leaves = [float(leaf[0, 0]) for leaf in jax.tree.leaves(drawn)]
        assert len(set(leaves)) == 3
    with pytest.raises(ValueError, match="draws from rngs, which is None"):
        cell.initialize_carry((2, 3), carry_init=normal)
    slower = NNXCell(Slower(LSTM(3, 4), 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"carry\.age of Slower.*, which is int32"):
        slower.initialize_carry((2, 3), nnx.Rngs(0), carry_init=normal)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_batch_major_is_time_major_with_time_before_the_features(batch):
    both = Bidirectional(LSTM(3, 4), GRU(3, 4))
    rnn = RNN(both, rngs=nnx.Rngs(0), time_major=False)
    xs = jax.random.normal(jax.random.key(0), (*batch, T, 3))
    mask = jax.random.bernoulli(jax.random.key(1), 0.7, (*batch, T))
    reset = jax.random.bernoulli(jax.random.key(2), 0.3, (*batch, T))
    carry = jax.tree.map(lambda leaf: leaf + 0.5, rnn.initial_carry(batch))
    last, ys = rnn(xs, carry, mask=mask, reset=reset)
    want, ys_first = rnn(
        jnp.moveaxis(xs, -2, 0),
        carry,
        mask=jnp.moveaxis(mask, -1, 0),
        reset=jnp.moveaxis(reset, -1, 0),
        time_major=True,
    )
    chex.assert_shape(ys, (*batch, T, 8))
    chex.assert_trees_all_equal((last, ys), (want, jnp.moveaxis(ys_first, 0, -2)))


def test_batch_major_refuses_flags_that_are_time_major():
    rnn = RNN(LSTM(3, 4), rngs=nnx.Rngs(0), time_major=False)
    with pytest.raises(ValueError, match=r"reset must be .* \[2, 5\] .*got \[5, 2\]"):
        rnn(XS, reset=jnp.zeros((T, B), bool))
    with pytest.raises(ValueError, match=r"\[\.\.\., T, D\] with time_major=False"):
        rnn(jnp.ones(3))


def test_the_nnx_module_runs_backwards_and_takes_lists():
    lstm = LSTM(2, 3)
    ahead, back = (RNN(lstm, rngs=nnx.Rngs(0), reverse=way) for way in (False, True))
    xs = [[[0.5, -1.0]], [[2.0, 0.0]], [[1.0, 1.0]]]
    mask = [[True], [True], [False]]
    params = ahead.arrays()
    want = unroll(lstm, params, jnp.array(xs), mask=jnp.array(mask), reverse=True)
    chex.assert_trees_all_equal(ahead(xs, mask=mask, reverse=True), want)
    chex.assert_trees_all_equal(back(xs, mask=mask), want)
    chex.assert_trees_all_equal(
        back(xs, reverse=False), unroll(lstm, params, jnp.array(xs))
    )


@pytest.mark.parametrize("kind", [RNN, NNXCell, LinenCell])
def test_help_shows_the_signature_of_every_class(kind):
    first = "recurrence" if kind is RNN else "cell"
    assert next(iter(inspect.signature(kind).parameters)) == first
    shown = "".join(pydoc.plain(pydoc.render_doc(kind)).replace("|", "").split())
    assert f"{kind.__name__}({first}:" in shown

    class Mine(RNN):
        def __init__(self, size: int, *, rngs: nnx.Rngs):
            super().__init__(LSTM(size, size), rngs=rngs)

    assert list(inspect.signature(Mine).parameters) == ["size", "rngs"]
    assert "xs" in inspect.signature(Mine(3, rngs=nnx.Rngs(0))).parameters
