"""What a recurrence takes and what it refuses, alike in `unroll`, `step` and the rest."""

import dataclasses
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences import RECURRENCES

import jaxrnn
from jaxrnn import (
    GRU,
    LSTM,
    LSTM1997,
    MLSTM,
    Bidirectional,
    Elman,
    GatedDeltaNet,
    Highway,
    MinGRU,
    ResetBeforeGRU,
    Residual,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
    unroll,
)
from jaxrnn.testing import steps

T, B = 3, 2
CELL = LSTM(3, 4)
PARAMS = jax.jit(CELL.init)(jax.random.key(0))
XS = jnp.ones((T, B, 3))


def zeros(shapes):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def parts(recurrence):
    """Its params, a carry for B rows and xs, all zeros."""
    params = zeros(jax.eval_shape(recurrence.init, jax.random.key(0)))
    carry = zeros(jax.eval_shape(lambda p: recurrence.initial_carry(p, (B,)), params))
    return params, carry, np.zeros((T, B, *recurrence.input_shape), np.float32)


def as_dicts(tree):
    """As a checkpoint read without a target gives it."""
    if hasattr(tree, "_fields"):
        return {name: as_dicts(leaf) for name, leaf in tree._asdict().items()}
    if isinstance(tree, tuple):
        return [as_dicts(leaf) for leaf in tree]
    return tree


def wider(leaf):
    return np.zeros((leaf.shape[0] + 1, *leaf.shape[1:]), leaf.dtype)


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_params_of_another_kind_or_size_are_refused_everywhere(recurrence):
    params, carry, xs = parts(recurrence)
    others = {
        "dicts": as_dicts(params),
        "another cell": LSTM1997(3, 4).init(jax.random.key(0)),
        "nothing": None,
        "larger": jax.tree.map(wider, params),
        "integers": jax.tree.map(lambda leaf: leaf.astype(np.int32), params),
    }
    for other in others.values():
        with pytest.raises(ValueError, match="^params.* must be .* got "):
            unroll(recurrence, other, xs)
        with pytest.raises(ValueError, match="^params.* must be .* got "):
            recurrence.initial_carry(other, (B,))
        if steps(recurrence):
            with pytest.raises(ValueError, match="^params.* must be .* got "):
                recurrence.step(other, carry, xs[0])


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_a_carry_of_another_kind_or_batch_is_refused_everywhere(recurrence):
    params, carry, xs = parts(recurrence)
    first = jax.tree.map(lambda leaf: leaf[:1], carry)
    for other in (first, jax.tree.leaves(carry), as_dicts(carry), carry[0][0]):
        with pytest.raises(ValueError, match="^carry.* must be .* got "):
            unroll(recurrence, params, xs, other)
        if steps(recurrence):
            with pytest.raises(ValueError, match="^carry.* must be .* got "):
                recurrence.step(params, other, xs[0])


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_integers_lists_and_no_rows_at_all_are_inputs(recurrence):
    params, carry, xs = parts(recurrence)

    def outputs(xs, carry=carry):
        stepped = recurrence.step(params, carry, xs[0]) if steps(recurrence) else None
        return unroll(recurrence, params, xs, carry), stepped

    want = jax.eval_shape(outputs, xs)
    for dtype in (np.int32, np.int64, np.uint8, np.bool_, np.float64):
        other = xs.astype(dtype)
        chex.assert_trees_all_equal(jax.eval_shape(lambda o=other: outputs(o)), want)
    chex.assert_trees_all_equal(jax.eval_shape(lambda: outputs(xs.tolist())), want)
    none = jax.tree.map(lambda leaf: leaf[:0], carry)
    chex.assert_shape(
        jax.eval_shape(outputs, xs[:, :0], none)[0][1], (T, 0, *recurrence.output_shape)
    )


def test_integers_count_as_the_numbers_they_are():
    counts = np.arange(T * B * 3).reshape(T, B, 3)
    want = unroll(CELL, PARAMS, counts.astype(np.float32))
    chex.assert_trees_all_equal(unroll(CELL, PARAMS, counts), want)
    arrays = jax.tree.map(np.asarray, PARAMS)
    chex.assert_trees_all_equal(unroll(CELL, arrays, counts.tolist()), want)


@pytest.mark.parametrize(
    "cell", [LSTM(3, 4), MLSTM(3, 4), GatedDeltaNet(3, 4), MinGRU(3, 4)]
)
def test_a_batch_of_no_rows_has_a_gradient_of_zero(cell):
    params, xs = parts(cell)[0], jnp.zeros((T, 0, 3))

    def loss(params):
        return jnp.sum(unroll(cell, params, xs, checkpoint_every=2, reverse=True)[1])

    chex.assert_trees_all_equal(
        jax.jit(jax.grad(loss))(params), jax.tree.map(jnp.zeros_like, params)
    )


def test_a_bias_the_equations_lack_is_not_left_out():
    cell = ResetBeforeGRU(3, 4)
    _, carry, xs = parts(cell)
    params, _, _ = parts(GRU(3, 4))
    with pytest.raises(ValueError, match=r"ResetBeforeGRUParams\(.*got GRUParams\(.*b_n="):
        cell.step(params, carry, xs[0])


def test_biases_that_a_cell_is_without_are_refused():
    cell = LSTM1997(3, 4, biases="gates")
    for biases in ("none", "all"):
        params, carry, xs = parts(LSTM1997(3, 4, biases=biases))
        with pytest.raises(ValueError, match="^params.* must .* got "):
            cell.step(params, carry, xs[0])


def test_a_step_takes_a_wider_carry_but_no_narrower_one():
    _, carry, xs = parts(CELL)
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(CELL.step, narrow, carry, xs[0].astype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"carry.h must be float32\[2, 4\], got bfloat16"):
        CELL.step(PARAMS, jax.tree.map(lambda a: a.astype(jnp.bfloat16), carry), xs[0])


@pytest.mark.parametrize(
    "act, names",
    [
        (lambda: CELL.init(0), r"key must be one key, such as jax.random.key\(0\), got 0"),
        (lambda: CELL.init(jax.random.split(jax.random.key(0))), "one key"),
        (lambda: CELL.init(jax.random.key(0), jnp.int32), "a floating dtype, got .*int32"),
        (lambda: CELL.init(jax.random.key(0), "wide"), "a floating dtype, got 'wide'"),
        (lambda: CELL.initial_carry(PARAMS, 2), "a tuple of integers, got 2"),
        (lambda: CELL.initial_carry(PARAMS, (2.5,)), r"of integers, got \(2.5,\)"),
        (lambda: CELL.step(PARAMS, None, XS[0, 0, :2]), r"x must be \[..., 3\] .* \[2\]"),
        (lambda: unroll(LSTM, PARAMS, XS), "Cell or a Composition, got <class"),
        (lambda: unroll(CELL, PARAMS, "abc"), "xs must be an array, got 'abc'"),
        (lambda: unroll(CELL, PARAMS, XS, mask="x"), "mask must be an array, got 'x'"),
        (lambda: unroll(CELL, PARAMS, XS, reverse="no"), "True or False, got 'no'"),
        (lambda: unroll(CELL, PARAMS, XS, checkpoint_every=2.0), "1 or more, got 2.0"),
        (lambda: unroll(CELL, PARAMS, XS, checkpoint_every=True), "1 or more, got True"),
        (lambda: unroll(CELL, PARAMS, XS, strategy=["scan"]), "unknown strategy"),
        (lambda: jaxrnn.length_mask(jnp.ones(2), 3), "lengths must be integers, got float"),
        (lambda: jaxrnn.length_mask([1, 2], 3.5), "length must be an integer, got 3.5"),
        (lambda: Stack(CELL, GRU(4, 4)), r"in one list, Stack\(\[a, b\]\), got LSTM"),
        (lambda: Stack(CELL), "in one list"),
        (lambda: Stack([LSTM, GRU]), "made of recurrences, got <class"),
        (lambda: Bidirectional(CELL, None), "Bidirectional is made of rec.* got None"),
        (lambda: Residual("lstm"), "Residual is made of recurrences, got 'lstm'"),
        (lambda: Elman(3, 4, activation=jnp.tanh), "unknown activation"),
        (lambda: Elman(3, 4, activation=["relu"]), "unknown activation"),
    ],
)
def test_what_does_not_fit_is_named_in_a_sentence(act, names):
    with pytest.raises(ValueError, match=names):
        act()


def test_options_of_numpy_are_options():
    want = unroll(CELL, PARAMS, XS, reverse=True, checkpoint_every=2)
    got = unroll(CELL, PARAMS, XS, reverse=np.bool_(True), checkpoint_every=np.int64(2))
    chex.assert_trees_all_equal(got, want)


def numbers_of(recurrence):
    """The fields that hold floating numbers, one or several."""
    for field in dataclasses.fields(recurrence):
        value = getattr(recurrence, field.name)
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, float):
            yield field.name, value


@pytest.mark.parametrize("kind", [np.float32, np.float64, jnp.float32])
def test_numbers_of_any_type_become_plain_ones(kind):
    seen = set()
    more = (WeightDrop(CELL, 0.5), Highway(GRU(3, 3)), LSTM1997(3, 4, input_bias=[0.0] * 4))
    for recurrence in (*RECURRENCES, *more):
        for name, value in numbers_of(recurrence):
            given = jax.tree.map(kind, value)
            changed = dataclasses.replace(recurrence, **{name: given})
            again = dataclasses.replace(changed, **{name: getattr(changed, name)})
            assert changed == again and hash(changed) == hash(again)
            assert all(type(n) is float for n in jax.tree.leaves(getattr(changed, name)))
            json.dumps(dataclasses.asdict(changed))
            seen.add(name)
    assert seen >= {"forget_bias", "epsilon", "rate", "bias", "r_max", "init_range"}


@pytest.mark.parametrize("nonsense", ["1", None, True, np.nan, np.inf, {}])
def test_a_number_that_is_none_is_refused(nonsense):
    more = (WeightDrop(CELL, 0.5), Highway(GRU(3, 3)))
    for recurrence in (*RECURRENCES, *more):
        for name, _ in numbers_of(recurrence):
            if nonsense is None and getattr(type(recurrence), name, 0) is None:
                continue  # a bound that need not be there
            named = f"{type(recurrence).__name__} needs a finite number.* for {name}, got"
            with pytest.raises(ValueError, match=f"{named} {re.escape(repr(nonsense))}"):
                dataclasses.replace(recurrence, **{name: nonsense})


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="above 0 for epsilon, got 0"):
        jaxrnn.LayerNormLSTM(3, 4, epsilon=0)
    with pytest.raises(ValueError, match=r"rates in \[0, 1\), got 1.0"):
        Zoneout(CELL, (0.1, 1))
    with pytest.raises(ValueError, match=r"finite number for rate, got \(0.1, 0.2\)"):
        VariationalDropout(CELL, (0.1, 0.2))
    with pytest.raises(ValueError, match=r"forget_bias of \(first, last\), got 3.0"):
        MLSTM(3, 4, forget_bias=3.0)
