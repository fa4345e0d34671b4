"""What `unroll` promises beyond the laws: its refusals, its flags to the step, no NaN."""

import re
import subprocess
import sys
from functools import partial

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    PeepholeLSTM,
    ResetBeforeGRU,
    Stack,
    unroll,
)
from jaxrnn.arrays import widen
from jaxrnn.cells.elman import ElmanCarry, ElmanParams
from jaxrnn.cells.lstm import LSTMCarry

T, B = 6, 2
CELL = LSTM(3, 4)
PARAMS = CELL.init(jax.random.key(0))
XS = jax.random.normal(jax.random.key(1), (T, B, 3))
MASK = jnp.array([[1, 1], [1, 1], [1, 0], [0, 1], [0, 0], [0, 0]], bool)
RESET = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0]], bool)
NONE = jnp.zeros((T, B), bool)

# h' = x + h: the output at a step is the sum of the inputs since the last beginning.
ADDER = Elman(1, 1, activation="identity")
ADDER_PARAMS = ElmanParams(w_x=jnp.ones((1, 1)), w_h=jnp.ones((1, 1)), b=jnp.zeros(1))
POWERS = jnp.array([[1.0], [10.0], [100.0], [1000.0], [10000.0]])


def zeros_carry(**changed):
    return CELL.initial_carry(PARAMS, (B,))._replace(**changed)


def add(start=0.0, **options):
    """The digits of what the adder has summed up, [T] as integers, and its carry."""
    carry, ys = unroll(
        ADDER,
        ADDER_PARAMS,
        POWERS,
        ElmanCarry(jnp.full((1,), start, jnp.float32)),
        **options,
    )
    return ys[:, 0].astype(int).tolist(), int(carry.h[0])


def flags(*when):
    return jnp.array(when, bool)


@pytest.mark.parametrize(
    "xs, options, names",
    [
        (jnp.ones((T, B, 5)), {}, r"\[T, \.\.\., 3\].*\[6, 2, 5\]"),
        (jnp.ones((0, B, 3)), {}, r"T of 1 or more.*\[0, 2, 3\]"),
        (jnp.ones(3), {}, r"\[T, \.\.\., 3\].*\[3\]"),
        (XS, {"mask": NONE[1:]}, r"mask must be .*\[6, 2\].*\[5, 2\]"),
        (XS, {"mask": NONE.T}, r"mask must be .*\[6, 2\].*\[2, 6\]"),
        (XS, {"mask": NONE.astype(float)}, "mask must be bool, got float32"),
        (XS, {"reset": NONE[:, 0]}, r"reset must be .*\[6, 2\].*\[6\]"),
        (XS, {"reset": NONE.astype(int)}, "reset must be bool, got int32"),
        (XS, {"mask": [1] * T}, "mask must be bool, got int32"),
        (XS, {"reset": [True] * T}, r"reset must be .*\[6, 2\].*\[6\]"),
        (
            XS,
            {"checkpoint_every": 0},
            "checkpoint_every must be an integer of 1 or more, got 0",
        ),
        (XS, {"strategy": "quick"}, "unknown strategy 'quick'; known: auto, .*scan"),
        (XS, {"carry": jnp.zeros((B, 4))}, r"LSTMCarry\(h=float32.* got float32\[2, 4\]"),
        (XS, {"carry": tuple(zeros_carry())}, r"carry must be .*LSTMCarry.* got .*"),
        (
            XS,
            {"carry": zeros_carry(c=jnp.zeros((B, 5)))},
            r"carry\.c must be float32\[2, 4\], got float32\[2, 5\]",
        ),
        (
            XS,
            {"carry": CELL.initial_carry(PARAMS, (3,))},
            r"carry\.h must be float32\[2, 4\], got float32\[3, 4\]",
        ),
        (
            XS,
            {"carry": zeros_carry(h=jnp.zeros((B, 4), jnp.bfloat16))},
            r"carry\.h must be float32\[2, 4\], got bfloat16\[2, 4\]",
        ),
    ],
)
def test_wrong_input_is_refused_at_the_entry_with_both_sizes(xs, options, names):
    with pytest.raises(ValueError, match=names):
        unroll(CELL, PARAMS, xs, **options)


def test_a_strategy_that_cannot_serve_says_why():
    cell = ResetBeforeGRU(3, 4)
    params = cell.init(jax.random.key(0))
    with pytest.raises(
        ValueError, match="'fused' cannot serve ResetBeforeGRU: .*does not split"
    ):
        unroll(cell, params, XS, strategy="fused")


def test_a_strategy_that_cannot_serve_a_part_is_refused_for_the_whole():
    stack = Stack((LSTM(3, 4), ResetBeforeGRU(4, 4)))
    with pytest.raises(ValueError, match="cannot serve ResetBeforeGRU"):
        unroll(stack, stack.init(jax.random.key(0)), XS, strategy="fused")


def test_what_is_no_recurrence_is_refused():
    with pytest.raises(ValueError, match="Cell or a Composition, got <object"):
        jaxrnn.explain(object())


def test_a_bidirectional_cannot_step_and_says_so():
    both = Bidirectional(LSTM(3, 4), LSTM(3, 4))
    params = both.init(jax.random.key(0))
    with pytest.raises(ValueError, match="cannot step"):
        both.step(params, both.initial_carry(params), XS[0, 0])


@pytest.mark.parametrize("size", [0, -1, 2.0, None, True, np.bool_(True), np.array(2.0)])
def test_a_size_that_is_no_integer_of_one_or_more_is_refused(size):
    named = re.escape(f"hidden_size of 1 or more, got {size!r}")
    with pytest.raises(ValueError, match=named):
        LSTM(3, size)


def test_an_integer_of_any_kind_is_a_size():
    cell = LSTM(np.int32(3), np.int64(4))
    assert cell == CELL and repr(cell) == repr(CELL)
    assert type(cell.input_size) is type(cell.hidden_size) is int
    for kind, more in {
        jaxrnn.ProjectedLSTM: "projection_size",
        jaxrnn.LRU: "state_size",
        jaxrnn.MLSTM: "heads",
        jaxrnn.LSTM1997: "block_size",
    }.items():
        assert type(getattr(kind(3, 4, **{more: np.int32(2)}), more)) is int
        with pytest.raises(ValueError, match=f"{more} of 1 or more, got 2.0"):
            kind(3, 4, **{more: 2.0})


@pytest.mark.parametrize(
    "make, names",
    [
        (lambda: Stack(()), "at least one"),
        (lambda: Stack((LSTM(3, 4), LSTM(5, 4))), "gives 4, .* takes 5"),
        (lambda: Bidirectional(LSTM(3, 4), LSTM(2, 4)), "got 3 and 2"),
        (lambda: Bidirectional(LSTM(3, 4), LSTM(3, 2), merge="sum"), "got 4 and 2"),
        (lambda: Bidirectional(CELL, CELL, merge="max"), "unknown merge 'max'"),
        (lambda: jaxrnn.Residual(LSTM(3, 4)), "got 3 and 4"),
    ],
)
def test_a_composition_of_parts_that_do_not_fit_is_refused(make, names):
    with pytest.raises(ValueError, match=names):
        make()


def test_a_reset_takes_effect_before_its_own_step():
    sums, last = add(start=7, reset=flags(0, 0, 1, 0, 0))
    assert sums == [8, 18, 100, 1100, 11100]
    assert last == 11100


def test_a_reset_at_the_first_step_drops_the_carry_passed_in():
    assert add(start=7, reset=flags(1, 0, 0, 0, 0))[0] == [1, 11, 111, 1111, 11111]


def test_a_reset_at_a_masked_step_is_not_lost():
    options = {"mask": flags(1, 1, 0, 1, 1), "reset": flags(0, 0, 1, 0, 0)}
    assert add(start=7, **options) == ([8, 18, 0, 1000, 11000], 11000)


def test_in_reverse_a_sequence_ends_where_the_next_one_begins():
    sums, last = add(start=7, reset=flags(0, 0, 1, 0, 0), reverse=True)
    assert sums == [11, 10, 11107, 11007, 10007]
    assert last == 11


def test_in_reverse_a_reset_at_the_first_step_ends_nothing():
    options = {"reset": flags(1, 0, 0, 0, 0), "reverse": True}
    assert add(start=7, **options) == ([11118, 11117, 11107, 11007, 10007], 11118)


def test_in_reverse_a_reset_after_padding_still_ends_the_sequence():
    options = {"mask": flags(1, 0, 0, 1, 1), "reset": flags(0, 1, 0, 1, 0)}
    assert add(start=7, **options, reverse=True) == ([1, 0, 0, 11007, 10007], 1)


def test_a_bidirectional_keeps_sequences_apart_in_both_directions():
    both = Bidirectional(ADDER, ADDER)
    reset = flags(0, 0, 1, 0, 0)
    _, ys = unroll(both, (ADDER_PARAMS, ADDER_PARAMS), POWERS, reset=reset)
    assert ys[:, 0].astype(int).tolist() == [1, 11, 100, 1100, 11100]
    assert ys[:, 1].astype(int).tolist() == [11, 10, 11100, 11000, 10000]


@pytest.mark.parametrize(
    "merge, want",
    [
        ("concat", [[2, 6], [3, 4]]),
        ("sum", [[8], [7]]),
        ("mean", [[4], [3.5]]),
        ("product", [[12], [12]]),
    ],
)
def test_a_bidirectional_merges_its_directions(merge, want):
    both = Bidirectional(ADDER, ADDER, merge=merge)
    carry = (ElmanCarry(jnp.zeros(1)), ElmanCarry(jnp.full((1,), 3.0)))
    xs = jnp.array([[2.0], [1.0]])
    _, ys = unroll(both, (ADDER_PARAMS, ADDER_PARAMS), xs, carry)
    np.testing.assert_array_equal(ys, want)


@jax.jit
def _gradients(params, carry, xs, mask, reset):
    def loss(*inputs):
        params, carry, xs = inputs
        last, ys = unroll(CELL, params, xs, carry, mask=mask, reset=reset)
        return jnp.sum(ys**2) + jnp.sum(jnp.where(mask[-1, :, None], last.h, 0) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(params, carry, xs)


def test_nan_in_padding_leaks_into_neither_values_nor_gradients():
    poisoned = jnp.where(MASK[..., None], XS, jnp.nan)
    want = _gradients(PARAMS, zeros_carry(), XS, MASK, NONE)
    got = _gradients(PARAMS, zeros_carry(), poisoned, MASK, NONE)
    chex.assert_trees_all_equal(got, want)


def test_nan_in_a_carry_before_a_reset_leaks_into_neither_values_nor_gradients():
    begins = NONE.at[0].set(True)
    poisoned = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), zeros_carry())
    want = _gradients(PARAMS, zeros_carry(), XS, MASK, begins)
    got = _gradients(PARAMS, poisoned, XS, MASK, begins)
    chex.assert_trees_all_equal(got, want)
    chex.assert_trees_all_equal(got[1][1], zeros_carry())


@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_without_a_valid_step_returns_the_carry_it_began_with(reverse):
    start = jax.tree.map(lambda leaf: leaf + 0.5, zeros_carry())
    mask = MASK.at[:, 1].set(False)
    last, ys = unroll(CELL, PARAMS, XS, start, mask=mask, reverse=reverse)
    np.testing.assert_array_equal(ys[:, 1], 0)
    np.testing.assert_array_equal(last.h[1], 0.5)
    np.testing.assert_array_equal(last.c[1], 0.5)
    assert not np.array_equal(last.h[0], start.h[0])


def test_padding_changes_nothing_in_either_direction():
    both = Bidirectional(CELL, GRU(3, 4))
    params = both.init(jax.random.key(0))
    (ahead, back), ys = unroll(both, params, XS, mask=MASK)
    (ahead_alone, back_alone), alone = unroll(both, params, XS[:3, 0])
    chex.assert_trees_all_close(ys[:3, 0], alone, atol=1e-6)
    chex.assert_trees_all_close(ahead.h[0], ahead_alone.h, atol=1e-6)
    chex.assert_trees_all_close(back.h[0], back_alone.h, atol=1e-6)


def test_length_mask_is_true_up_to_each_length():
    want = np.array([[0, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    mask = jaxrnn.length_mask(jnp.array([0, 2, 3]), 3)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, want)
    assert jaxrnn.length_mask(2, 3).tolist() == [True, True, False]


def test_flags_may_be_lists():
    begins = NONE.at[3].set(True)
    got = unroll(CELL, PARAMS, XS, mask=MASK.tolist(), reset=begins.tolist())
    chex.assert_trees_all_equal(got, unroll(CELL, PARAMS, XS, mask=MASK, reset=begins))


def test_explain_names_the_strategy_of_each_cell_and_the_reason():
    first, second = jaxrnn.explain(Stack((LSTM(3, 4), ResetBeforeGRU(4, 4)))).splitlines()
    assert first.startswith("LSTM: fused, because")
    assert second.startswith("ResetBeforeGRU: scan, because")
    assert "fused cannot serve it (its recurrence does not split" in second


def test_explain_refuses_what_unroll_refuses():
    with pytest.raises(ValueError, match="cannot serve ResetBeforeGRU"):
        jaxrnn.explain(ResetBeforeGRU(3, 4), strategy="fused")


def test_unroll_maps_over_many_parameters():
    many = jax.vmap(CELL.init)(jax.random.split(jax.random.key(0), 3))
    _, ys = jax.vmap(partial(unroll, CELL), in_axes=(0, None))(many, XS)
    for i in range(3):
        _, want = unroll(CELL, jax.tree.map(lambda leaf, i=i: leaf[i], many), XS)
        chex.assert_trees_all_close(ys[i], want, atol=1e-6)


@pytest.mark.slow
def test_every_mode_of_differentiation_is_served():
    cell = GRU(2, 2)
    params, xs = cell.init(jax.random.key(0)), XS[:4, :, :2]
    flat, build = jax.flatten_util.ravel_pytree(params)

    def loss(strategy, every, flat):
        options = {"strategy": strategy, "checkpoint_every": every}
        _, ys = unroll(cell, build(flat), xs, mask=MASK[:4], reset=RESET[:4], **options)
        return jnp.sum(ys**2)

    def modes(strategy, every=None):
        by = partial(loss, strategy, every)

        def along(flat):
            return jax.jvp(by, (flat,), (jnp.ones_like(flat),))[1]

        return {
            "jvp": along(flat),
            "linearize": jax.linearize(by, flat)[1](jnp.ones_like(flat)),
            "jacfwd": jax.jacfwd(by)(flat),
            "grad": jax.grad(by)(flat),
            "grad of jvp": jax.grad(along)(flat),
            "hessian": jax.hessian(by)(flat),
            "reverse over reverse": jax.jacrev(jax.jacrev(by))(flat),
        }

    want = jax.jit(modes, static_argnums=(0, 1))("scan")
    chex.assert_trees_all_close(want["jacfwd"], want["grad"], atol=1e-5)
    for every in (None, 2):
        got = jax.jit(modes, static_argnums=(0, 1))("fused", every)
        chex.assert_trees_all_close(got, want, atol=1e-5)


@pytest.mark.parametrize("cell", [LSTM(3, 4), PeepholeLSTM(3, 4)], ids=repr)
def test_the_loop_back_of_fused_adds_up_no_parameters(cell):
    params = cell.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(unroll(cell, params, XS, mask=MASK, strategy="fused")[1])

    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    shapes = {"x".join(map(str, leaf.shape)) for leaf in params}
    adds = re.findall(r"stablehlo.add .* : tensor<([\dx]+)xf32>", text)
    loops = [part for part in text.split("stablehlo.while")[1:]]
    assert len(loops) == 2
    assert not shapes & set(adds), "a gradient as large as a parameter is added to"


def test_sums_over_many_rows_and_steps_are_wide():
    cell, rows, steps = GRU(2, 2), 64, 200
    params = cell.init(jax.random.key(0), jnp.bfloat16)
    xs = jax.random.normal(jax.random.key(1), (steps, rows, 2)).astype(jnp.bfloat16)

    def gradient(params, xs, every=None):
        def loss(params):
            _, ys = unroll(cell, params, xs, checkpoint_every=every)
            return jnp.sum(widen(ys))

        return jax.grad(loss)(params)

    with jax.enable_x64(True):
        want = gradient(*jax.tree.map(lambda a: a.astype(jnp.float64), (params, xs)))
    for every in (None, 10):
        for a, b in zip(gradient(params, xs, every), want, strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b)
            off = np.linalg.norm(a - b) / np.linalg.norm(b)
            # 12,800 rows of a bias: 20% where they are added up in bfloat16.
            assert off < 0.02


@pytest.mark.parametrize("strategy", ["fused", "scan"])
def test_checkpoints_save_memory(strategy):
    cell = LSTM(4, 16)
    params = cell.init(jax.random.key(0))
    xs = jnp.ones((400, 4, 4))

    def temporary_bytes(checkpoint_every):
        def loss(params, xs):
            carry, _ = unroll(
                cell, params, xs, strategy=strategy, checkpoint_every=checkpoint_every
            )
            return jnp.sum(carry.h)

        compiled = jax.jit(jax.grad(loss)).lower(params, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(20) < temporary_bytes(None) / 4


@pytest.mark.parametrize("every", [1, T, T + 1])
def test_checkpoints_at_any_distance_change_nothing(every):
    want = unroll(CELL, PARAMS, XS, mask=MASK)
    got = unroll(CELL, PARAMS, XS, mask=MASK, checkpoint_every=every)
    chex.assert_trees_all_close(got, want, atol=1e-6)


def test_the_carry_of_a_cell_is_the_named_tuple_its_module_declares():
    carry, _ = unroll(CELL, PARAMS, XS)
    assert isinstance(carry, LSTMCarry)


def test_importing_jaxrnn_is_light():
    program = (
        "import sys, jaxrnn, jaxrnn.testing; "
        "print({'flax', 'optax', 'orbax', 'chex', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
