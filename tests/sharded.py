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
    MLSTM,
    Bidirectional,
    GatedDeltaNet,
    LearnedStart,
    MinGRU,
    PeepholeLSTM,
    Slower,
    Stack,
    unroll,
)

T, B, D = 6, 8, 3
XS = jax.random.normal(jax.random.key(0), (T, B, D))
MASK = jnp.arange(T)[:, None] < jnp.array([6, 5, 4, 3, 2, 1, 6, 6])
RESET = jax.random.bernoulli(jax.random.key(1), 0.3, (T, B))
CUT = P(None, "data")

CASES = [
    (Stack((Bidirectional(GRU(D, 4), LSTM(D, 4)), LearnedStart(LSTM(8, 4)))), {}),
    (Slower(PeepholeLSTM(D, 4), every=2), {"checkpoint_every": 2}),
    (GRU(D, 4), {"strategy": "scan"}),
    (MinGRU(D, 4), {"strategy": "associative"}),
    (MLSTM(D, 4), {}),
    (GatedDeltaNet(D, 4), {}),
]


def check(recurrence, options):
    params = recurrence.init(jax.random.key(2))

    def loss(params, xs, mask, reset):
        _, ys = unroll(recurrence, params, xs, mask=mask, reset=reset, **options)
        return jnp.sum(ys**2)

    def mapped(*inputs):
        return jax.lax.psum(loss(*inputs), "data")

    run = jax.value_and_grad(loss)
    want = jax.jit(run)(params, XS, MASK, RESET)
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
