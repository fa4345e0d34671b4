"""Diagnostics against values by hand, explicit loops, and the derivatives of cells."""

import gc
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences import CELLS, VARIANTS, when_slow

from jaxrnn import (
    GRU,
    LSTM,
    LSTM1997,
    SLSTM,
    Bidirectional,
    Elman,
    LearnedStart,
    MinGRU,
    Precision,
    Slower,
    Stack,
    Zoneout,
)
from jaxrnn.diagnostics import (
    colour_text,
    gate_values,
    gradient_by_lag,
    horizons,
    memory_horizon,
    saturation,
    spectral_radius,
    state_norms,
    step_jacobian,
    walk,
)
from jaxrnn.diagnostics.plots import (
    new_figure,
    plot_by_lag,
    plot_horizons,
    plot_over_time,
    plot_saturation,
    save,
)

T, B, D = 4, 2, 3


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn_params(recurrence):
    params = jax.jit(recurrence.init)(jax.random.key(1))
    return jax.tree.map(lambda a: a + 0.3 * draw(*a.shape, seed=a.size), params)


# The gradient by lag.


def test_a_linear_network_has_the_powers_of_its_matrix():
    cell = Elman(D, 3, activation="identity")
    params = cell.init(jax.random.key(0))._replace(w_h=draw(3, 3))
    got = gradient_by_lag(cell, params, draw(T, D))
    power, wanted = np.eye(3), []
    for _ in range(T):
        power = power @ np.asarray(params.w_h)
        wanted.append(np.linalg.norm(power))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recurrence",
    [LSTM(D, 4), Stack((MinGRU(D, 2), GRU(2, 3))), Slower(LearnedStart(GRU(D, 3)), 2)],
    ids=["cell", "stack", "with a count"],
)
def test_it_is_what_jax_grad_finds_in_a_loop_of_rows_of_all_lengths(recurrence):
    params, xs = drawn_params(recurrence), draw(T, B, D)
    lengths = [T, 2]
    mask = jnp.arange(T)[:, None] < jnp.array(lengths)

    def loss(ys):
        return jnp.sum(jnp.sin(ys))

    got = gradient_by_lag(
        recurrence, params, jnp.where(mask[..., None], xs, jnp.nan), loss, mask=mask
    )

    def in_a_loop(pushes, xs):
        carry, total = recurrence.initial_carry(params), jnp.float32(0)
        for x, push in zip(xs, pushes, strict=True):
            carry, y = recurrence.step(params, jax.tree.map(jnp.add, carry, push), x)
            total += loss(y)
        return total

    nothing = jax.tree.map(jnp.zeros_like, recurrence.initial_carry(params))
    for row, length in enumerate(lengths):
        gradients = jax.jit(jax.grad(in_a_loop, allow_int=True))(
            [nothing] * length, xs[:length, row]
        )
        for t, gradient in enumerate(gradients):
            leaves = [a for a in jax.tree.leaves(gradient) if a.dtype == jnp.float32]
            wanted = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves))
            np.testing.assert_allclose(got[length - 1 - t, row], wanted, rtol=1e-4)
        assert np.all(np.isnan(got[length:, row]))


def test_without_a_loss_it_is_the_jacobian_of_the_last_output():
    cell, xs = LSTM(D, 2), draw(T, B, D)
    params = drawn_params(cell)
    got = gradient_by_lag(cell, params, xs)
    start = cell.initial_carry(params)

    def last(entering):
        y = jnp.zeros(2)
        for x in xs[:, 1]:
            entering, y = cell.step(params, entering, x)
        return y

    jacobian = jax.jit(jax.jacobian(last))(start)
    wanted = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jacobian))
    np.testing.assert_allclose(got[T - 1, 1], wanted, rtol=1e-5)


def test_a_loss_and_its_arrays_are_let_go():
    cell, target = GRU(D, 2), draw(T, 2)
    kept = weakref.ref(target)
    gradient_by_lag(
        cell, drawn_params(cell), draw(T, D), lambda ys, t=target: jnp.sum((ys - t) ** 2)
    )
    del target
    gc.collect()
    assert kept() is None


def test_the_jacobian_of_more_outputs_takes_no_more_loops():
    def loops(size):
        cell = GRU(D, size)
        params = jax.eval_shape(cell.init, jax.random.key(0))
        lowered = jax.jit(gradient_by_lag, static_argnums=0).lower(
            cell, params, jnp.ones((T, D))
        )
        compiled = lowered.compile()
        return compiled.as_text().count(" while(")

    assert loops(4) == loops(2) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "recurrence", [Elman(D, 20), Slower(GRU(D, 3), 2)], ids=["many outputs", "with a count"]
)
def test_the_jacobian_is_that_of_each_output_by_itself(recurrence):
    params, xs = drawn_params(recurrence), draw(T, B, D)
    got = gradient_by_lag(recurrence, params, xs)
    alone = jnp.stack(
        [
            gradient_by_lag(recurrence, params, xs, lambda ys, i=i: ys[-1, :, i].sum())
            for i in range(recurrence.output_size)
        ]
    )
    np.testing.assert_allclose(got, np.linalg.norm(alone, axis=0), rtol=1e-5)


def test_nothing_reaches_back_over_a_reset():
    cell, xs = GRU(D, 2), draw(T, D)
    reset = jnp.zeros(T, bool).at[2].set(True)
    got = gradient_by_lag(cell, drawn_params(cell), xs, reset=reset)
    # The carry of step 2 enters after its reset: it counts. Those before it do not.
    assert np.all(np.asarray(got[: T - 2]) > 0)
    np.testing.assert_array_equal(got[T - 2 :], 0)


def test_what_cannot_step_or_does_not_fit_is_refused():
    both = Bidirectional(GRU(D, 2), GRU(D, 2))
    with pytest.raises(ValueError, match="cannot step"):
        gradient_by_lag(both, both.init(jax.random.key(0)), draw(T, D))
    cell = GRU(D, 2)
    with pytest.raises(ValueError, match=r"xs must be \[T, ..., 3\]"):
        state_norms(cell, drawn_params(cell), draw(T, 4))


def test_state_norms_are_those_of_a_loop_and_stand_still_where_masked():
    cell, xs = LSTM(D, 4), draw(T, B, D)
    params, mask = drawn_params(cell), jnp.ones((T, B), bool).at[2:, 1].set(False)
    got = state_norms(cell, params, xs, mask=mask)
    carry = cell.initial_carry(params, (B,))
    for t in range(2):
        carry, _ = cell.step(params, carry, xs[t])
        np.testing.assert_allclose(got.h[t], np.linalg.norm(carry.h, axis=-1), rtol=1e-5)
        np.testing.assert_allclose(got.c[t], np.linalg.norm(carry.c, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(got.c[2:, 1], got.c[1, 1])


# Gates.


def test_gates_of_an_lstm_and_a_gru_by_hand():
    def logistic(x):
        return 1 / (1 + np.exp(-x))

    cell, x = LSTM(1, 1), jnp.array([[2.0]])
    params = cell.init(jax.random.key(0))._replace(
        w_x=jnp.array([[0.5, -1.0, 0.3, 0.25]]), b=jnp.array([0.0, 1.0, 0.0, -2.0])
    )
    gates = gate_values(cell, params, x)
    for name, z in {"input": 1.0, "forget": -1.0, "output": -1.5}.items():
        np.testing.assert_allclose(gates[name], [[logistic(z)]], rtol=1e-6)

    cell = GRU(1, 1)
    params = cell.init(jax.random.key(0))._replace(w_x=jnp.array([[0.5, -1.0, 0.3]]))
    gates = gate_values(cell, params, x)
    for name, z in {"reset": 1.0, "forget": -2.0}.items():
        np.testing.assert_allclose(gates[name], [[logistic(z)]], rtol=1e-6)


GATED = [
    cell
    for cell in CELLS + VARIANTS
    if type(cell).__name__ not in ("Elman", "IndRNN", "Carousel", "Slower")
]


@pytest.mark.parametrize("cell", [*CELLS, *map(when_slow, VARIANTS)], ids=str)
def test_gates_are_shares_and_forget_is_what_is_kept_of_the_memory(cell):
    """For every cell of the package: one shows its gates, or says that it has none."""
    params, xs = drawn_params(cell), draw(T, B, *cell.input_shape)
    if cell not in GATED:
        with pytest.raises(ValueError, match="no gates|holds still"):
            gate_values(cell, params, xs)
        return
    carry = jax.tree.map(
        lambda a: (1 + jnp.abs(draw(*a.shape))).astype(a.dtype),
        cell.initial_carry(params, (B,)),
    )
    gates = gate_values(cell, params, xs, carry)
    for values in gates.values():
        assert values.shape[:2] == (T, B)
        assert np.all(np.asarray(values) >= 0) and np.all(np.asarray(values) <= 1)

    prepared, inputs = cell.prepare(params, xs)
    u = jax.tree.map(lambda leaf: leaf[0], cell.project(prepared, inputs))
    field = next(name for name in ("c", "h", "re", "s") if name in carry._fields)

    def memory(share):
        """What a step makes of a memory grown by `share`, all else as it is."""
        grown = carry._replace(**{field: getattr(carry, field) * (1 + share)})
        if cell.splits:
            return getattr(
                cell.gate(prepared, grown, u, cell.mix(prepared, carry))[0], field
            )
        return getattr(cell.recur(prepared, grown, u)[0], field)

    if "forget" in gates and memory_is_gated_alone(cell):
        _, grown = jax.jit(lambda: jax.jvp(memory, (jnp.float32(0),), (jnp.float32(1),)))()
        forget = gates["forget"][0]
        forget = forget.reshape(*forget.shape, *(1,) * (grown.ndim - forget.ndim))
        np.testing.assert_allclose(
            grown, forget * getattr(carry, field), rtol=1e-4, atol=1e-6
        )


def memory_is_gated_alone(cell):
    """Whether c' = f c + what does not see c when the products are held: not where a
    peephole sees it, noise or a bound holds it, or it is kept in other units."""
    return getattr(cell, "cell_clip", None) is None and type(cell).__name__ not in (
        "PeepholeLSTM",
        "CoupledPeepholeLSTM",
        "ProjectedPeepholeLSTM",
        "ResetBeforeGRU",
        "MinimalGRU",
        "SLSTM",
        "MLSTM",
        "GatedDeltaNet",
        "LRU",
        "Zoneout",
    )


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_the_memory_of_an_slstm_is_the_mean_that_its_gates_make(forget):
    cell, xs = SLSTM(D, 4, forget=forget), draw(T, B, D)
    params = drawn_params(cell)
    gates, passed = gate_values(cell, params, xs), walk(cell, params, xs)
    z = cell.project(params, xs) + jax.vmap(partial(cell.mix, params))(passed.entering)
    new = np.tanh(z[..., 8:12])
    before, after = (
        side.c / jnp.maximum(side.n, 1e-30) for side in (passed.entering, passed.leaving)
    )
    np.testing.assert_allclose(
        after, gates["forget"] * before + gates["input"] * new, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(gates["forget"][0], 1)  # of nothing nothing is lost


def test_gates_belong_to_cells():
    stack = Stack((GRU(D, 2),))
    with pytest.raises(ValueError, match="take one of its parts"):
        gate_values(stack, stack.init(jax.random.key(0)), draw(T, D))


def test_saturation_and_horizon_leave_out_what_is_masked():
    gate = jnp.array([[[0.05, 0.5]], [[0.95, 0.5]], [[0.99, 0.05]], [[0.5, 0.5]]])
    mask = jnp.array([[True], [True], [True], [False]])
    shut, opened = saturation(gate, mask)
    np.testing.assert_allclose(shut, [1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(opened, [2 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(saturation(gate).open, [0.5, 0], rtol=1e-6)

    forget = jnp.array([[0.5, 1.0], [0.125, 1.0], [0.9, 0.0]])
    horizon = memory_horizon(forget, jnp.array([True, True, False]))
    np.testing.assert_allclose(horizon, [1 / np.log(4), np.inf], rtol=1e-6)
    np.testing.assert_allclose(memory_horizon(jnp.full((3, 1), 0.99)), 1 / 0.01, rtol=0.01)


def test_the_horizons_of_a_cell_are_those_of_its_forget_gate_or_none():
    cell, xs = GRU(D, 3), draw(T, B, D)
    params = drawn_params(cell)
    mask = jnp.arange(T)[:, None] < jnp.array([T, T - 2])
    forget = gate_values(cell, params, xs, mask=mask)["forget"]
    got = horizons(cell, params, xs, mask=mask)
    np.testing.assert_allclose(got, memory_horizon(forget, mask), rtol=1e-6)
    assert not np.allclose(got, horizons(cell, params, xs))


@pytest.mark.parametrize(
    "without",
    [
        Elman(D, 3),
        Stack((GRU(D, 3),)),
        LSTM1997(D, 3),
        Zoneout(Elman(D, 3), 0.1),
        LearnedStart(Precision(Elman(D, 3))),
        Slower(GRU(D, 3), 2),
        LearnedStart(Slower(GRU(D, 3), 2)),
    ],
    ids=str,
)
def test_a_recurrence_without_a_forget_gate_of_its_own_has_no_horizons(without):
    params = without.init(jax.random.key(0))
    assert horizons(without, params, draw(T, B, D)).shape == (0,)


def test_the_horizons_of_a_cell_show_through_what_is_around_it():
    cell, xs = LearnedStart(Zoneout(GRU(D, 3), 0.1)), draw(T, B, D)
    params = drawn_params(cell)
    want = memory_horizon(gate_values(cell, params, xs)["forget"])
    np.testing.assert_allclose(horizons(cell, params, xs), want, rtol=1e-6)


# The spectrum.


def test_the_radius_of_each_block():
    half_turn = 0.5 * np.array([[0.0, 1.0], [-1.0, 0.0]])  # eigenvalues +-i / 2
    sheared = np.array([[2.0, 7.0], [0.0, -3.0]])
    np.testing.assert_allclose(spectral_radius(np.hstack([half_turn, sheared])), [0.5, 3.0])
    heads = np.stack([half_turn, sheared])
    np.testing.assert_allclose(spectral_radius(heads), [[0.5], [3.0]])
    for shape in ((2, 3), (4,)):
        with pytest.raises(ValueError, match="recurrent matrix"):
            spectral_radius(np.zeros(shape))


def test_at_rest_a_simple_network_has_the_jacobian_of_its_weights():
    cell = Elman(D, 4)
    params = cell.init(jax.random.key(0))
    jacobian = step_jacobian(cell, params, cell.initial_carry(params), jnp.zeros(D))
    np.testing.assert_allclose(jacobian, params.w_h.T, atol=1e-6)
    np.testing.assert_allclose(spectral_radius(jacobian), [1.0], rtol=1e-5)  # orthogonal
    with pytest.raises(ValueError, match=r"x must be \[3\]"):
        step_jacobian(cell, params, cell.initial_carry(params, (B,)), draw(B, D))


# Text and pictures.


def test_text_is_coloured_by_sign_and_strength_and_stays_text():
    page = colour_text(["a", "<b>", "\n"], [0.5, -1.0, 0.0])
    assert page.count("<span") == 3
    assert "rgba(214, 39, 40, 0.50)" in page and "rgba(31, 119, 180, 1.00)" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "0.50" in colour_text(["x"], [1.0], scale=2.0)
    assert "0.00" in colour_text(["x"], [0.0])
    with pytest.raises(ValueError, match=r"activations must be \[2\]"):
        colour_text(["a", "b"], [1.0])


def test_pictures_are_drawn(tmp_path):
    cell, xs = LSTM(D, 4), draw(T, B, D)
    params = drawn_params(cell)
    gates = gate_values(cell, params, xs)
    figure, axes = new_figure(2, 2)
    mask = jnp.ones((T, B), bool).at[2:].set(False)
    plot_by_lag(axes[0, 0], {"LSTM": gradient_by_lag(cell, params, xs, mask=mask)})
    remembered = {"LSTM": memory_horizon(gates["forget"]), "Elman": jnp.zeros(0)}
    plot_horizons(axes[0, 1], remembered)
    assert [line.get_label() for line in axes[0, 1].lines] == ["LSTM"]
    plot_saturation(axes[1, 0], {name: saturation(gate) for name, gate in gates.items()})
    plot_over_time(axes[1, 1], state_norms(cell, params, xs)._asdict())
    (curve,) = axes[0, 0].lines
    assert list(curve.get_xdata()) == [0, 1]
    save(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
