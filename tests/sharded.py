"""Recurrences over a batch that is cut over four devices: run by tests/test_mesh.py in a
process of its own, because the number of devices is fixed once JAX has begun."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    GatedDeltaNet,
    LearnedStart,
    MinGRU,
    PeepholeLSTM,
    ResetBeforeGRU,
    Slower,
    Stack,
    VariationalDropout,
    unroll,
)
from jaxrnn.cell import Cell
from jaxrnn.strategies import over_devices

T, B, D = 6, 8, 3
XS = jax.random.normal(jax.random.key(0), (T, B, D))
MASK = jnp.arange(T)[:, None] < jnp.array([6, 5, 4, 3, 2, 1, 6, 6])
RESET = jax.random.bernoulli(jax.random.key(1), 0.3, (T, B))
CUT = P(None, "data")
AUTO = (AxisType.Auto,)
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
OF_H = {"all-gather", "reduce-scatter"}  # in a loop, and in the loop back

CASES = [
    (Stack((Bidirectional(GRU(D, 4), LSTM(D, 4)), LearnedStart(LSTM(8, 4)))), {}),
    (Slower(PeepholeLSTM(D, 4), every=2), {"checkpoint_every": 2}),
    (GRU(D, 4), {"strategy": "scan"}),
    (MinGRU(D, 4), {"strategy": "associative"}),
    (GatedDeltaNet(D, 4), {}),
    (ResetBeforeGRU(D, 4), {"strategy": "scan"}),
    (VariationalDropout(Elman(D, 4), 0.3), {}),
]


def check(recurrence, options):
    params = recurrence.init(jax.random.key(2))
    noisy = isinstance(recurrence, VariationalDropout)

    def loss(params, xs, mask, reset):
        if noisy:
            params = recurrence.with_noise(params, jax.random.key(3), T, (B,))
        _, ys = unroll(recurrence, params, xs, mask=mask, reset=reset, **options)
        return jnp.sum(ys**2)

    run = jax.value_and_grad(loss)
    want = jax.jit(run)(params, XS, MASK, RESET)
    shared_among(jax.make_mesh((4,), ("data",), axis_types=AUTO), run, params, want)
    if shares_units(recurrence):
        mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=AUTO * 2)
        shared_among(mesh, run, params, want, OF_H)
    if not noisy:
        check_by_hand(loss, options, params, want)


def shares_units(recurrence):
    if isinstance(recurrence, Cell):
        return recurrence.shares_units
    return all(map(shares_units, recurrence.parts))


def shared_among(mesh, run, params, want, exchanged=frozenset()):
    """In the loops only what is `exchanged`, and once each."""
    inputs = jax.device_put((XS, MASK, RESET), NamedSharding(mesh, CUT))
    whole = jax.device_put(params, NamedSharding(mesh, P()))
    with over_devices(mesh):
        compiled = jax.jit(run).lower(whole, *inputs).compile()
    same(compiled(whole, *inputs), want)
    assert "all-reduce" in compiled.as_text()
    for body in loops(compiled.as_text()):
        assert set(collectives(body)) <= exchanged
        assert len(collectives(body)) <= 1


def check_by_hand(loss, options, params, want):
    """The mesh that a user has about it, without `over_devices`."""

    def mapped(*inputs):
        return jax.lax.psum(loss(*inputs), "data")

    run = jax.value_and_grad(loss)
    auto, explicit = (
        jax.make_mesh((4,), ("data",), axis_types=(kind,))
        for kind in (AxisType.Auto, AxisType.Explicit)
    )
    mapped = jax.shard_map(mapped, mesh=auto, in_specs=(P(), CUT, CUT, CUT), out_specs=P())
    compiled = jax.jit(jax.value_and_grad(mapped)).lower(params, XS, MASK, RESET).compile()
    same(compiled(params, XS, MASK, RESET), want)
    reduces_after_the_loops(compiled)

    with jax.set_mesh(explicit):
        inputs = jax.device_put((XS, MASK, RESET), NamedSharding(explicit, CUT))
        whole = jax.device_put(params, NamedSharding(explicit, P()))
        same(jax.jit(run)(whole, *inputs), want)

    inputs = jax.device_put((XS, MASK, RESET), NamedSharding(auto, CUT))
    whole = jax.device_put(params, NamedSharding(auto, P()))
    compiled = jax.jit(run).lower(whole, *inputs).compile()
    same(compiled(whole, *inputs), want)
    if not options.keys() & {"checkpoint_every", "strategy"}:
        reduces_after_the_loops(compiled)


def collectives(program):
    """The exchanges between devices in a program, by name."""
    names = "|".join(COLLECTIVES)
    return re.findall(rf" ({names})(?:-start)?\(", program)


def reduces_after_the_loops(compiled):
    assert "all-reduce" in compiled.as_text()
    assert not any("all-reduce" in body for body in loops(compiled.as_text()))


def same(got, want):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), got, want
    )


def loops(program):
    """What each loop of a compiled program does, with all that its body calls."""
    parts = dict(
        re.findall(r"^(?:ENTRY )?(%[\w.\-]+) [^\n]*\{\n(.*?)^\}", program, re.M | re.S)
    )

    def whole(name):
        called = set(re.findall(r"%[\w.\-]+", parts[name])) & set(parts) - {name}
        return parts[name] + "".join(map(whole, called))

    return [whole(name) for name in re.findall(r"body=(%[\w.\-]+)", program)]


if __name__ == "__main__":
    for case in CASES:
        check(*case)
        print(case)
