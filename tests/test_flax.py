"""The adapters inside Flax's own modules give the numbers of `unroll`."""

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    LearnedStart,
    Stack,
    WeightDrop,
    Zoneout,
    length_mask,
    unroll,
)
from jaxrnn.flax import RNN, LinenCell, NNXCell
from jaxrnn.lstm import LSTMParams

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
    params = variables["params"]["cell"]["params"]
    got = jax.jit(rnn.apply)(variables, XS)
    chex.assert_trees_all_close(got, batch_first(recurrence, params), atol=1e-6)


def test_linen_rnn_differentiates_a_cell():
    rnn = linen.RNN(LinenCell(GRU(3, 4)))
    variables = rnn.init(jax.random.key(1), XS)
    got = jax.jit(jax.grad(lambda v: jnp.sum(rnn.apply(v, XS) ** 2)))(variables)
    want = jax.grad(lambda p: jnp.sum(batch_first(GRU(3, 4), p)[1] ** 2))(
        variables["params"]["cell"]["params"]
    )
    chex.assert_trees_all_close(got["params"]["cell"]["params"], want, atol=1e-5)


def test_linen_rnn_begins_with_a_learned_start_and_learns_it():
    cell = LearnedStart(LSTM(3, 4))
    rnn = linen.RNN(LinenCell(cell), return_carry=True)
    variables = rnn.init(jax.random.key(1), XS)
    moved = jax.tree.map(lambda leaf: leaf + 0.3, variables)
    params = moved["params"]["cell"]["params"]
    got = jax.jit(rnn.apply)(moved, XS)
    chex.assert_trees_all_close(got, batch_first(cell, params), atol=1e-6)

    got = jax.jit(jax.grad(lambda v: jnp.sum(rnn.apply(v, XS)[1] ** 2)))(moved)
    want = jax.grad(lambda p: jnp.sum(batch_first(cell, p)[1] ** 2))(params)
    assert all(jnp.any(leaf != 0) for leaf in want.start)
    chex.assert_trees_all_close(got["params"]["cell"]["params"], want, atol=1e-5)


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
