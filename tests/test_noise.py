"""Zoneout, variational dropout and weight drop against loops written in NumPy."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LSTM,
    SLSTM,
    Bidirectional,
    Elman,
    LearnedStart,
    Precision,
    ResetBeforeGRU,
    Slower,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
    explain,
    unroll,
)

T, B, D, H = 5, 3, 2, 4

MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool).T
RESET = np.array([[0, 0, 1, 0, 1], [1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], bool).T
PLAIN, FORWARD, BACKWARD = (None, None, False), (MASK, RESET, False), (MASK, RESET, True)
WAYS = list(itertools.product(("scan", "fused"), (None, 2)))


def inputs(batch_shape=(B,)):
    return jax.random.normal(jax.random.key(1), (T, *batch_shape, D))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(params, h_in, c, x):
    """One row and step: (h, c), with h_in what the products see of the past."""
    w_x, w_h, b = map(np.asarray, params)
    i, f, g, o = np.split(x @ w_x + h_in @ w_h + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def loop(step, xs, mask, reset, reverse):
    """ys `[T, B, H]` and last h, c of `step(t, row, h, c, x) -> h, c` in plain Python."""
    xs = np.asarray(xs)
    ys, last = np.zeros((T, B, H)), np.zeros((2, B, H))
    for row in range(B):
        h, c = np.zeros(H), np.zeros(H)
        for t in reversed(range(T)) if reverse else range(T):
            if reset is not None:
                begins = (t + 1 < T and reset[t + 1, row]) if reverse else reset[t, row]
                if begins:
                    h, c = np.zeros(H), np.zeros(H)
            if mask is None or mask[t, row]:
                h, c = step(t, row, h, c, xs[t, row])
                ys[t, row] = h
        last[:, row] = h, c
    return last, ys


def assert_agrees(cell, params, want, mask, reset, reverse):
    for strategy, every in WAYS:
        carry, ys = unroll(
            cell,
            params,
            inputs(),
            mask=mask,
            reset=reset,
            reverse=reverse,
            strategy=strategy,
            checkpoint_every=every,
        )
        np.testing.assert_allclose(ys, want[1], atol=1e-6)
        np.testing.assert_allclose(np.stack([carry.h, carry.c]), want[0], atol=1e-6)


def gradients(cell, params, noise_key, way, mask, reset, reverse):
    """Of a sum of random weights on the outputs, by the params without noise and xs."""
    weights = np.random.default_rng(0).normal(size=(T, B, cell.output_size))
    weights = weights.astype(np.float32)

    def loss(params, xs):
        noisy = cell.with_noise(params, noise_key, T, (B,))
        carry, ys = unroll(
            cell,
            noisy,
            xs,
            mask=mask,
            reset=reset,
            reverse=reverse,
            strategy=way[0],
            checkpoint_every=way[1],
        )
        lasts = (leaf for leaf in jax.tree.leaves(carry) if leaf.dtype == jnp.float32)
        return jnp.sum(weights * ys) + sum(jnp.sum(leaf) for leaf in lasts)

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, inputs())


@pytest.mark.parametrize("mask, reset, reverse", [PLAIN, FORWARD, BACKWARD])
def test_zoneout_holds_the_drawn_units_of_each_step(mask, reset, reverse):
    cell = Zoneout(LSTM(D, H), (0.3, 0.6))
    params = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    hold_h, hold_c = map(np.asarray, params.masks)

    def step(t, row, h, c, x):
        new_h, new_c = lstm(params.cell, h, c, x)
        return np.where(hold_h[t, row], h, new_h), np.where(hold_c[t, row], c, new_c)

    want = loop(step, inputs(), mask, reset, reverse)
    assert_agrees(cell, params, want, mask, reset, reverse)


def test_zoneout_evaluates_to_the_expectation():
    cell = Zoneout(LSTM(D, H), (0.3, 0.6))
    params = cell.init(jax.random.key(0))

    def step(t, row, h, c, x):
        new_h, new_c = lstm(params.cell, h, c, x)
        return 0.3 * h + 0.7 * new_h, 0.6 * c + 0.4 * new_c

    want = loop(step, inputs(), *BACKWARD)
    assert_agrees(cell, params, want, *BACKWARD)


def test_zoneout_serves_a_cell_that_does_not_split():
    inner = ResetBeforeGRU(D, H)
    cell = Zoneout(inner, 0.5)
    params = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    carry, ys = cell.initial_carry(params, (B,)), []
    for x, hold in zip(inputs(), params.masks[0], strict=True):
        new, _ = inner.step(params.cell, carry, x)
        carry = new._replace(h=jnp.where(hold, carry.h, new.h))
        ys.append(carry.h)
    np.testing.assert_allclose(unroll(cell, params, inputs())[1], ys, atol=1e-6)
    with pytest.raises(ValueError, match="does not split"):
        unroll(cell, params, inputs(), strategy="fused")


def test_zoneout_draws_bits_for_every_step_row_and_unit_of_each_leaf():
    cell = Zoneout(LSTM(D, H), (0.1, 0.5))
    noisy = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), 50, (20, 2))
    hold_h, hold_c = map(np.asarray, noisy.masks)
    assert hold_h.shape == hold_c.shape == (50, 20, 2, H)
    # 8000 bits: four standard deviations are 0.013 and 0.022.
    assert abs(hold_h.mean() - 0.1) < 0.013
    assert abs(hold_c.mean() - 0.5) < 0.022
    for axis in range(4):
        others = tuple(i for i in range(4) if i != axis)
        assert hold_c.mean(axis=others).std() > 0


def test_zoneout_of_rate_zero_is_the_cell():
    cell, inner = Zoneout(LSTM(D, H), 0.0), LSTM(D, H)
    params = cell.init(jax.random.key(0))
    noisy = cell.with_noise(params, jax.random.key(2), T, (B,))
    _, want = unroll(inner, params.cell, inputs())
    for some in (params, noisy):
        np.testing.assert_array_equal(unroll(cell, some, inputs())[1], want)


def test_noise_of_zoneout_fits_only_xs_of_the_shape_it_was_drawn_for():
    cell = Zoneout(LSTM(D, H), 0.2)
    params = cell.init(jax.random.key(0))
    noisy = cell.with_noise(params, jax.random.key(2), T, (B,))
    with pytest.raises(ValueError, match=r"mask is \[5, 3, 4\], xs \[4, 3, 2\]"):
        unroll(cell, noisy, inputs()[:4])
    with pytest.raises(ValueError, match=r"mask is \[5, 3, 4\], xs \[5, 2, 2\]"):
        unroll(cell, noisy, inputs()[:, :2])
    with pytest.raises(ValueError, match="step with params without noise"):
        cell.step(noisy, cell.initial_carry(noisy, (B,)), inputs()[0])
    cell.step(params, cell.initial_carry(params, (B,)), inputs()[0])


@pytest.mark.parametrize("drawn_for, given", [((T,), (T, D)), ((B,), (D,))])
def test_noise_of_zoneout_fits_no_xs_of_fewer_axes_even_of_the_same_lengths(
    drawn_for, given
):
    cell = Zoneout(LSTM(D, H), 0.2)
    noisy = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, drawn_for)
    with pytest.raises(ValueError, match="the noise of .* was drawn for other xs"):
        cell.step(noisy, cell.initial_carry(noisy, given[:-1]), jnp.ones(given))


def test_noise_of_zoneout_does_not_fit_xs_without_its_batch():
    cell = Zoneout(LSTM(D, H), 0.2)
    noisy = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    with pytest.raises(ValueError, match=r"mask is \[5, 3, 4\], xs \[5, 2\]"):
        unroll(cell, noisy, inputs(()))


@dataclasses.dataclass(frozen=True)
class DoubledOutput(Elman):
    def gate(self, params, carry, u, r):
        carry, y = super().gate(params, carry, u, r)
        return carry, 2 * y


def test_zoneout_refuses_a_cell_whose_output_is_not_in_its_carry():
    cell = Zoneout(DoubledOutput(D, H), 0.2)
    with pytest.raises(ValueError, match="not a leaf of its carry"):
        unroll(cell, cell.init(jax.random.key(0)), inputs())


@pytest.mark.parametrize(
    "inner",
    [
        SLSTM(D, H),
        Slower(GRU(D, H), 2),
        LearnedStart(SLSTM(D, H)),
        Precision(SLSTM(D, H), "bfloat16"),
        LearnedStart(Slower(GRU(D, H), 2)),
    ],
    ids=str,
)
def test_zoneout_refuses_a_cell_whose_carry_only_means_something_as_a_whole(inner):
    with pytest.raises(ValueError, match="cannot hold single numbers of the carry of S"):
        Zoneout(inner, 0.2)


def test_zoneout_inside_a_slower_cell_is_served():
    cell = Slower(Zoneout(GRU(D, H), 0.5), 2)
    params = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    ys = unroll(cell, params, inputs())[1]
    assert np.isfinite(ys).all()
    assert not np.allclose(ys, unroll(cell, cell.init(jax.random.key(0)), inputs())[1])


def test_zoneout_refuses_more_rates_than_leaves():
    cell = Zoneout(GRU(D, H), (0.2, 0.3))
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="2 rates for a carry of 1 leaves"):
        unroll(cell, params, inputs())
    with pytest.raises(ValueError, match="2 rates for a carry of 1 leaves"):
        cell.with_noise(params, jax.random.key(2), T, (B,))


@pytest.mark.parametrize("mask, reset, reverse", [PLAIN, BACKWARD])
def test_variational_dropout_drops_the_same_units_at_every_step(mask, reset, reverse):
    cell = VariationalDropout(LSTM(D, H), 0.5)
    params = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    kept = np.asarray(params.mask)
    assert set(kept.flat) == {0.0, 2.0}

    def step(t, row, h, c, x):
        return lstm(params.cell, h * kept[row], c, x)

    want = loop(step, inputs(), mask, reset, reverse)
    assert_agrees(cell, params, want, mask, reset, reverse)


def test_variational_dropout_without_noise_is_the_cell():
    cell = VariationalDropout(GRU(D, H), 0.5)
    params = cell.init(jax.random.key(0))
    _, want = unroll(cell.cell, params.cell, inputs())
    np.testing.assert_array_equal(unroll(cell, params, inputs())[1], want)


def test_variational_dropout_keeps_the_expectation():
    cell = VariationalDropout(GRU(D, H), 0.3)
    noisy = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (50, 40))
    mask = np.asarray(noisy.mask)
    assert mask.shape == (50, 40, H)
    # 8000 bits of share 0.3: four standard deviations are 0.021, and 0.03 scaled.
    assert abs((mask == 0).mean() - 0.3) < 0.021
    assert abs(mask.mean() - 1) < 0.03


def test_noise_of_variational_dropout_fits_only_its_batch():
    cell = VariationalDropout(GRU(D, H), 0.3)
    noisy = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))
    with pytest.raises(ValueError, match=r"another batch: its mask is \[3, 4\]"):
        unroll(cell, noisy, inputs()[:, :2])


def test_variational_dropout_refuses_a_cell_it_cannot_reach_into():
    with pytest.raises(ValueError, match="ResetBeforeGRU does not"):
        VariationalDropout(ResetBeforeGRU(D, H), 0.3)


def test_weight_drop_drops_recurrent_weights_and_nothing_else():
    stack = Stack((LSTM(D, 30), Elman(30, 30)))
    cell = WeightDrop(stack, 0.4)
    params = cell.init(jax.random.key(0))
    noisy = cell.with_noise(params, jax.random.key(2), T, (B,))
    for clean, dropped in zip(params[0], noisy[0], strict=True):
        kept = np.asarray(dropped.w_h) != 0
        # At least 900 weights: four standard deviations are 0.065.
        assert abs(kept.mean() - 0.6) < 0.065
        np.testing.assert_allclose(
            dropped.w_h, np.where(kept, clean.w_h / 0.6, 0), rtol=1e-6
        )
        np.testing.assert_array_equal(dropped.w_x, clean.w_x)
        np.testing.assert_array_equal(dropped.b, clean.b)
    _, want = unroll(stack, noisy[0], inputs())
    np.testing.assert_array_equal(unroll(cell, noisy, inputs())[1], want)


def test_gradients_reach_the_recurrent_weights_that_were_kept():
    cell = WeightDrop(Elman(D, H), 0.5)
    params = cell.init(jax.random.key(0))
    key = jax.random.key(2)
    (noisy,) = cell.with_noise(params, key, T, (B,))
    (clean_bar,), _ = gradients(cell, params, key, ("fused", None), *PLAIN)
    inner_bar, _ = gradients(cell.cell, noisy, key, ("fused", None), *PLAIN)
    kept = np.asarray(noisy.w_h) != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(clean_bar.w_h, np.where(kept, 2 * inner_bar.w_h, 0), 1e-5)
    np.testing.assert_allclose(clean_bar.w_x, inner_bar.w_x, 1e-5)


def test_weight_drop_refuses_params_without_recurrent_weights():
    @dataclasses.dataclass(frozen=True)
    class Renamed(Elman):
        def init(self, key, dtype=jnp.float32):
            return super().init(key, dtype)._asdict() | {"w_h": 0}

    cell = WeightDrop(Renamed(D, H), 0.5)
    with pytest.raises(ValueError, match="no params named w_h"):
        cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(2), T, (B,))


NESTED = Stack(
    (
        WeightDrop(Zoneout(VariationalDropout(LSTM(D, 3), 0.4), (0.3, 0.5)), 0.4),
        Bidirectional(
            Zoneout(LearnedStart(GRU(3, 2)), 0.4), VariationalDropout(GRU(3, 2), 0.4)
        ),
    )
)


def test_gradients_through_noise_agree_between_strategies():
    params, key = NESTED.init(jax.random.key(0)), jax.random.key(2)
    want, *others = (
        gradients(NESTED, params, key, way, *BACKWARD)
        for way in (("scan", None), ("fused", None), ("fused", 2))
    )
    for (path, a), *same in zip(
        jax.tree.leaves_with_path(want), *map(jax.tree.leaves, others), strict=True
    ):
        assert np.abs(a).max() > 0, path
        for b in same:
            np.testing.assert_allclose(b, a, atol=2e-6, rtol=1e-4, err_msg=str(path))


def test_fused_serves_every_cell_with_noise_around_it():
    assert explain(NESTED).count("fused, because") == 3


def test_noise_is_a_function_of_its_key():
    stack = Stack((Zoneout(Elman(4, 4), 0.5), Zoneout(Elman(4, 4), 0.5)))
    params = stack.init(jax.random.key(0))
    one, same, other = (
        [p.masks[0] for p in stack.with_noise(params, jax.random.key(k), 20, (B,))]
        for k in (2, 2, 3)
    )
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(other)).any()
    assert (np.asarray(one[0]) != np.asarray(one[1])).any(), "layers share their noise"


def test_a_cell_without_noise_returns_its_params():
    params = LSTM(D, H).init(jax.random.key(0))
    assert LSTM(D, H).with_noise(params, jax.random.key(2), T, (B,)) is params


@pytest.mark.parametrize("wrap", [Zoneout, VariationalDropout, WeightDrop])
@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused(wrap, rate):
    with pytest.raises(ValueError, match="rates in \\[0, 1\\)|finite number for rate"):
        wrap(LSTM(D, H), rate)


@pytest.mark.parametrize("wrap", [Zoneout, VariationalDropout])
def test_what_wraps_a_cell_refuses_a_composition(wrap):
    with pytest.raises(ValueError, match="wraps a cell, got Stack"):
        wrap(Stack((LSTM(D, H),)), 0.2)
