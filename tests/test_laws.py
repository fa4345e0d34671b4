"""Every law on every recurrence, and proof that the laws notice broken cells."""

import dataclasses
import json
from typing import NamedTuple

import chex
import golden
import jax
import jax.numpy as jnp
import pytest
from jax import Array
from recurrences import EVERY, RECURRENCES

from jaxrnn import (
    LSTM,
    SLSTM,
    Bidirectional,
    Carousel,
    CoupledLSTM,
    Elman,
    Stack,
    unroll,
)
from jaxrnn.cells.elman import ElmanCarry, ElmanParams
from jaxrnn.testing import (
    LAWS,
    bfloat16_stays_near_float64_over_time,
    check_cell,
    steps,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("recurrence", EVERY)
def test_every_recurrence_keeps_every_law(recurrence, law):
    law(recurrence)


@pytest.mark.parametrize(
    "remembers",
    [
        LSTM(3, 4, forget_bias=8.0),
        CoupledLSTM(3, 4, forget_bias=8.0),
        SLSTM(3, 4, forget_bias=8.0),
        SLSTM(3, 4, forget="exponential"),
    ],
    ids=repr,
)
def test_a_cell_that_forgets_nothing_stays_near_float64_too(remembers):
    bfloat16_stays_near_float64_over_time(remembers)


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_parameter_names_and_shapes_stay_the_same(recurrence):
    known = json.loads(golden.FILE.read_text())
    assert known.get(repr(recurrence)) == golden.parameter_shapes(recurrence), (
        "parameters differ from tests/golden/parameters.json; if they are meant to, run "
        "PYTHONPATH=. python tests/golden.py"
    )


def test_the_golden_file_knows_no_other_recurrence():
    assert set(json.loads(golden.FILE.read_text())) == set(map(repr, RECURRENCES))


def test_only_a_bidirectional_cannot_step():
    assert steps(Stack((LSTM(3, 4), Elman(4, 4))))
    assert not steps(Stack((LSTM(3, 4), Bidirectional(Elman(4, 2), Elman(4, 2)))))


@chex.assert_max_traces(n=1)
def _outputs(recurrence, params, xs):
    return unroll(recurrence, params, xs)[1]


def test_a_rebuilt_stack_does_not_retrace():
    run = jax.jit(_outputs, static_argnums=0)
    for _ in range(2):
        stack = Stack([LSTM(3, 4), Elman(4, 4)])
        run(stack, stack.init(jax.random.key(0)), jnp.ones((2, 3)))


class CountingCarry(NamedTuple):
    h: Array
    count: Array  # an integer
    unused: None = None


@dataclasses.dataclass(frozen=True)
class Counting(Elman):
    """A sound cell with leaves that no gradient goes through."""

    def initial_carry(self, params, batch_shape=()):
        start = super().initial_carry(params, batch_shape)
        return CountingCarry(start.h, jnp.zeros(batch_shape, jnp.int32))

    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r) * (carry.count % 2)[..., None].astype(u.dtype)
        return CountingCarry(h, carry.count + 1), h


def test_a_carry_may_hold_integers_and_none():
    check_cell(Counting(3, 4), progress=False)


# Broken in one way each: what an author may get wrong.


@dataclasses.dataclass(frozen=True)
class CentresOverTime(Elman):
    def project(self, params, x):
        return (x - x.mean(axis=0)) @ params.w_x


@dataclasses.dataclass(frozen=True)
class MixesTheBatch(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r - r.mean(axis=tuple(range(r.ndim - 1))))
        return ElmanCarry(h), h


@dataclasses.dataclass(frozen=True)
class AddsUpNarrow(Carousel):
    def widen(self, carry):
        return carry


@dataclasses.dataclass(frozen=True)
class WidensItsOutput(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r)
        return ElmanCarry(h), h.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class WidensItsCarry(Elman):
    def gate(self, params, carry, u, r):
        h = jnp.tanh(u + r).astype(jnp.float32)
        return ElmanCarry(h), h.astype(u.dtype)


@dataclasses.dataclass(frozen=True)
class MultipliesByAWideConstant(Elman):
    def project(self, params, x):
        return (x @ params.w_x * jnp.ones(4, jnp.float32)).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class StopsAGradient(Elman):
    def mix(self, params, carry):
        return jax.lax.stop_gradient(carry.h) @ params.w_h + params.b


@dataclasses.dataclass(frozen=True)
class StepsDifferently(Elman):
    def step(self, params, carry, x):
        carry, y = super().step(params, carry, x)
        return carry, 1.001 * y


@dataclasses.dataclass(frozen=True)
class ForgetsTheBatch(Elman):
    def initial_carry(self, params, batch_shape=()):
        return ElmanCarry(jnp.zeros(self.hidden_size, params.b.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class ComparesByIdentity(Elman):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True)
class HidesAProductInItsGate(Elman):
    """Its own derivative of the gate leaves out the carry."""

    def gate(self, params, carry, u, r):
        @jax.custom_vjp
        def half(h):
            return h / 2

        half.defvjp(lambda h: (h / 2, None), lambda _, g: (g,))
        h = jnp.tanh(u + r + half(carry.h))
        return ElmanCarry(h), h


BROKEN = [
    (CentresOverTime, "law 1, unroll is a loop of step"),
    (CentresOverTime, "law 2, unroll can stop and resume"),
    (CentresOverTime, "law 6, no output depends on later inputs"),
    (MixesTheBatch, "law 3, batch axes agree with vmap"),
    (MixesTheBatch, "law 9, masks resets and reverse are a loop over rows"),
    (AddsUpNarrow, "law 12, bfloat16 stays near float64 over time"),
    (WidensItsOutput, "law 8, bfloat16 in bfloat16 out"),
    (WidensItsCarry, "law 8, bfloat16 in bfloat16 out"),
    (MultipliesByAWideConstant, "law 8, bfloat16 in bfloat16 out"),
    (StopsAGradient, "law 5, gradients agree with finite differences"),
    (HidesAProductInItsGate, "law 5, gradients agree with finite differences"),
    (StepsDifferently, "law 1, unroll is a loop of step"),
    (ForgetsTheBatch, "law 4, shapes and dtypes are the documented ones"),
    (ComparesByIdentity, "law 7, an equal recurrence does not retrace"),
]


@pytest.mark.parametrize("broken, law", BROKEN)
def test_a_broken_cell_is_told_which_law_it_breaks(broken, law):
    words = law.partition(", ")[2].replace(" ", "_")
    (check,) = [check for check in LAWS if check.__name__ == words]
    with pytest.raises(AssertionError, match=f"^{broken.__name__}.* breaks {law}: "):
        check(broken(3, 4))


def test_check_cell_names_every_broken_law_by_how_much():
    with pytest.raises(AssertionError) as raised:
        check_cell(StepsDifferently(3, 4))
    first, second = str(raised.value).splitlines()
    assert "breaks law 1" in first and "off by" in first
    assert "likely `project` mixes time steps" in first
    assert "breaks law 9" in second and "tolerance" in second


@dataclasses.dataclass(frozen=True)
class DrawsInItsDtype(Elman):
    def init(self, key, dtype=jnp.float32):
        keys = jax.random.split(key)
        shapes = (self.input_size, self.hidden_size), (self.hidden_size, self.hidden_size)
        drawn = (jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True))
        return ElmanParams(*(0.5 * w for w in drawn), jnp.zeros(self.hidden_size, dtype))


def test_a_cell_is_judged_by_what_it_computes_and_law_by_law(capsys):
    check_cell(DrawsInItsDtype(3, 4))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(LAWS)
    assert told[0].startswith("DrawsInItsDtype: law 1 of ") and "loop of step" in told[0]


def test_every_law_names_its_likely_cause():
    assert all(law.__doc__ and law.__doc__.startswith("likely ") for law in LAWS)


def test_check_cell_takes_nothing_but_a_recurrence():
    with pytest.raises(ValueError, match="takes a Cell or a Composition, got 'lstm'"):
        check_cell("lstm")
