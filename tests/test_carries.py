"""Carries at every step, and sequences that start from a carry that is given."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LSTM,
    MLSTM,
    Bidirectional,
    Elman,
    LearnedStart,
    MinGRU,
    Residual,
    Slower,
    Stack,
    explain,
    unroll,
)
from jaxrnn.cells.elman import ElmanCarry, ElmanParams
from jaxrnn.strategies import Chunkwise

T, B = 4, 2
MASK = np.array([[1, 1], [1, 0], [0, 1], [1, 0]], bool)
RESET = np.array([[0, 0], [0, 1], [1, 0], [0, 0]], bool)
XS = jax.random.normal(jax.random.key(1), (T, B, 3))

# h' = x + h: what is left at a step is the sum of the inputs since the last beginning.
ADDER = Elman(1, 1, activation="identity")
ADDER_PARAMS = ElmanParams(w_x=jnp.ones((1, 1)), w_h=jnp.ones((1, 1)), b=jnp.zeros(1))
POWERS = jnp.array([[1.0], [10.0], [100.0], [1000.0]])


def flags(*when):
    return jnp.array(when, bool)


def sums(**options):
    last, ys, carries = unroll(ADDER, ADDER_PARAMS, POWERS, return_carries=True, **options)
    return [int(h) for h in carries.h[:, 0]], int(last.h[0]), ys[:, 0].astype(int).tolist()


def test_a_masked_step_holds_the_carry_that_is_kept():
    got = sums(mask=flags(1, 0, 1, 0), reset=flags(0, 0, 0, 1))
    assert got == ([1, 1, 101, 0], 0, [1, 0, 101, 0])


def test_in_reverse_the_last_carry_is_that_of_the_first_step():
    got = sums(reverse=True, reset=flags(0, 0, 1, 0))
    assert got == ([11, 10, 1100, 1000], 11, [11, 10, 1100, 1000])


def test_a_reset_starts_from_the_carry_that_is_given():
    start = ElmanCarry(jnp.array([7.0]))
    resets = {"reset": flags(0, 0, 1, 0), "start": start}
    assert sums(**resets)[0] == [8, 18, 107, 1107]
    assert sums(carry=ElmanCarry(jnp.array([5.0])), **resets)[0] == [6, 16, 107, 1107]
    assert sums(mask=flags(1, 1, 0, 1), **resets)[0] == [8, 18, 7, 1007]
    assert sums(reverse=True, **resets)[0] == [18, 17, 1107, 1007]


@pytest.mark.parametrize(
    "recurrence",
    [
        MLSTM(3, 4),
        Slower(LearnedStart(GRU(3, 3)), 2),
        Stack((Bidirectional(LSTM(3, 2), MinGRU(3, 2)), Residual(GRU(4, 4)))),
    ],
    ids=repr,
)
def test_carries_and_starts_are_those_of_pieces(recurrence):
    params = recurrence.init(jax.random.key(0))
    run = jax.jit(
        lambda xs, mask, reset, start, keep: unroll(
            recurrence, params, xs, mask=mask, reset=reset, start=start, return_carries=keep
        ),
        static_argnames="keep",
    )
    start = jax.tree.map(
        lambda a: a + jnp.asarray(0.1, a.dtype) if a.ndim > 1 else a,
        recurrence.initial_carry(params, (B,)),
    )
    if not isinstance(recurrence, MLSTM):  # whose memories must agree with one another
        assert_start_replaces_initial(recurrence, params, start)
    want, ys_wanted = run(XS, MASK, RESET, None, False)
    last, ys, carries = run(XS, MASK, RESET, None, True)
    chex.assert_trees_all_close((last, ys), (want, ys_wanted), atol=1e-6)
    chex.assert_tree_shape_prefix(carries, (T,))
    if not isinstance(recurrence, Stack):  # whose one part starts at the end
        before, _ = run(XS[:2], MASK[:2], RESET[:2], None, False)
        chex.assert_trees_all_close(
            jax.tree.map(lambda a: a[1], carries), before, atol=1e-6
        )


def assert_start_replaces_initial(recurrence, params, start):
    begins = np.ones((1, B), bool)
    got = unroll(recurrence, params, XS[:1], reset=begins, start=start)
    chex.assert_trees_all_close(got, unroll(recurrence, params, XS[:1], start), atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_carries_of_recomputed_segments_are_the_same(reverse):
    cell = Slower(LearnedStart(GRU(3, 3)), 2)
    params = cell.init(jax.random.key(0))

    def gradients(every):
        def loss(params):
            options = {"mask": MASK, "reset": RESET, "reverse": reverse}
            results = unroll(
                cell, params, XS, checkpoint_every=every, return_carries=True, **options
            )
            return jnp.sum(results[2].y ** 2) + jnp.sum(results[1]), results

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    chex.assert_trees_all_close(gradients(3), gradients(None), atol=1e-6)


def test_a_strategy_that_keeps_no_carries_is_refused():
    cell = MLSTM(3, 4)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="'chunkwise' keeps no carries: take 'scan'"):
        unroll(cell, params, XS, strategy="chunkwise", return_carries=True)
    with pytest.raises(ValueError, match="'chunkwise' keeps no carries"):
        explain(cell, params, XS, strategy=Chunkwise(), return_carries=True)
    assert explain(cell, params, XS, return_carries=True).startswith("MLSTM: Carries()")


def test_a_start_of_another_shape_is_refused():
    cell = MLSTM(3, 4)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="^carry.* must be .* got "):
        unroll(cell, params, XS, start=cell.initial_carry(params))
