"""The forms in which `fused` keeps, adds up and multiplies: which, and the same numbers."""

from dataclasses import dataclass
from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxrnn import (
    GRU,
    LSTM,
    Elman,
    IndRNN,
    LayerNormLSTM,
    PeepholeLSTM,
    Precision,
    ProjectedLSTM,
    Zoneout,
    unroll,
)
from jaxrnn.arrays import widen
from jaxrnn.cells.elman import ElmanCarry
from jaxrnn.strategies import Fused, Scan
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.preactivation import Apart, Summed, preactivation
from jaxrnn.strategies.products import by_transposed, in_one_axis
from jaxrnn.strategies.program import with_products
from jaxrnn.strategies.step import Step, project

T, B, H = 5, 2, 4
XS = jax.random.normal(jax.random.key(1), (T, B, 3))
WEIGHTS = (((2,), (0,)), ((), ()))


@dataclass(frozen=True)
class TakesUTwice(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r) + u
        return ElmanCarry(h), h


@dataclass(frozen=True)
class GivesR(Elman):
    def gate(self, params, carry, u, r):
        return ElmanCarry(jnp.tanh(u + r)), r


@dataclass(frozen=True)
class Subtracts(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u - r)
        return ElmanCarry(h), h


@dataclass(frozen=True)
class AddsTwice(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r) * (r + u)
        return ElmanCarry(h), h


@dataclass(frozen=True)
class Doubles(Elman):
    """Its r adds to itself, its u to nothing."""

    def gate(self, params, carry, u, r):
        h = jnp.tanh(r + r)
        return ElmanCarry(h), h


SUMMED = [
    Elman(3, H),
    LSTM(3, H),
    PeepholeLSTM(3, H),
    ProjectedLSTM(3, H, projection_size=2),
    IndRNN(3, H),
    Precision(LSTM(3, H), "bfloat16"),
]
APART = [
    GRU(3, H),
    LayerNormLSTM(3, H),
    Zoneout(LSTM(3, H), 0.2),  # whose u has a place for masks
    Precision(LSTM(3, H), carry="bfloat16"),  # which rounds both before it adds them
    *(kind(3, H) for kind in (TakesUTwice, GivesR, Subtracts, AddsTwice, Doubles)),
]


def taken_by(cell, dtype=jnp.float32):
    params = cell.init(jax.random.key(0), dtype)
    carry = cell.initial_carry(params, (B,))
    xs = XS.astype(dtype)
    call = Call.of(cell, False, params, carry, None, xs, None, None)
    us = project(call)
    step = Step.of(call, us)
    return preactivation(step, step.weights(widen(call.params)), call.carry, us)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("cell", SUMMED, ids=repr)
def test_a_gate_that_adds_u_to_r_takes_their_sum(cell, dtype):
    assert isinstance(taken_by(cell, dtype), Summed)


@pytest.mark.parametrize("cell", APART, ids=repr)
def test_a_gate_that_does_more_with_them_takes_both(cell):
    assert isinstance(taken_by(cell), Apart)


@pytest.mark.parametrize(
    "cell", [c for c in SUMMED + APART if not isinstance(c, Precision)], ids=repr
)
def test_what_a_gate_takes_changes_no_number(cell):
    params = cell.init(jax.random.key(0))

    def gradient(strategy):
        def loss(params, xs):
            return jnp.sum(jnp.sin(unroll(cell, params, xs, strategy=strategy)[1]))

        return jax.grad(loss, (0, 1))(params, XS)

    chex.assert_trees_all_close(gradient(Fused()), gradient(Scan()), rtol=1e-5, atol=1e-6)


def stacked(cell, size):
    """How many arrays [T, B, size] the loops of a gradient leave."""
    params = cell.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(unroll(cell, params, XS, strategy=Fused())[1])

    def scans(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "scan":
                yield equation
            for inner in jax.tree.leaves(equation.params, is_leaf=is_jaxpr):
                if is_jaxpr(inner):
                    yield from scans(getattr(inner, "jaxpr", inner))

    program = jax.make_jaxpr(jax.grad(loss))(params).jaxpr
    outputs = [v.aval.shape for scan in scans(program) for v in scan.outvars]
    return outputs.count((T, B, size))


def is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_the_loops_of_an_lstm_leave_one_sum_and_one_gradient_of_it():
    assert stacked(LSTM(3, H), 4 * H) == 2


def test_the_loops_of_a_gru_leave_r_and_the_gradients_of_both():
    assert stacked(GRU(3, H), 3 * H) == 3


def multiply(xs, w, product=jax.lax.dot_general):
    return product(xs, w, dimension_numbers=WEIGHTS)


@pytest.mark.parametrize("devices", [1, 2])
def test_steps_and_rows_are_one_axis_where_no_devices_share_them(devices, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    w = jax.random.normal(jax.random.key(2), (3, H))
    got = multiply(XS, w, in_one_axis)
    chex.assert_trees_all_close(got, XS @ w, atol=1e-6)
    program = str(jax.make_jaxpr(partial(multiply, product=in_one_axis))(XS, w))
    assert ("reshape" in program) == (devices == 1)


def test_narrow_products_and_others_stay_as_they_are():
    w = jax.random.normal(jax.random.key(2), (3, H))
    one_axis = partial(multiply, product=in_one_axis)
    narrow = XS.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    assert "reshape" not in str(jax.make_jaxpr(one_axis)(*narrow))
    batched = partial(in_one_axis, dimension_numbers=(((2,), (1,)), ((0,), (0,))))
    chex.assert_trees_all_close(
        batched(XS, jnp.stack([w] * T)), jnp.einsum("tbk,kn->tbn", XS, w), atol=1e-6
    )


@pytest.mark.parametrize("compile", [lambda f: f, jax.jit])
def test_a_function_with_a_derivative_of_its_own_keeps_it(compile):
    @compile
    def leak(x, w):
        return jax.nn.relu(x @ w)  # whose derivative at 0 is JAX's choice

    def refused(*_, **__):
        raise AssertionError("its product was replaced")

    w = jnp.zeros((3, H))
    replaced = with_products(leak, refused)
    slopes = jax.grad(lambda x: jnp.sum(replaced(x, w)))(XS)
    chex.assert_trees_all_equal(slopes, jnp.zeros_like(XS))


def test_a_product_takes_the_transposed_weights_it_is_given():
    w, other = jax.random.normal(jax.random.key(2), (2, 3, H))

    def both(params, x):
        return jnp.tanh(x @ params["w"]) * (x @ (2 * params["w"]))

    product = by_transposed({"w": w}, {"w": other.T})
    got = with_products(both, product)({"w": w}, XS)
    chex.assert_trees_all_close(got, jnp.tanh(XS @ other) * (XS @ (2 * w)), atol=1e-6)
