"""Resident: the kernel that keeps recurrent weights in a TPU's VMEM, without a TPU.

The interpreter of Pallas runs it on a CPU, with the memories and copies of a TPU, and
looks for races between them. It has never run on a TPU.
"""

import re
from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxrnn import (
    GRU,
    LSTM,
    ConvLSTM,
    LayerNormLSTM,
    PeepholeLSTM,
    ResetBeforeGRU,
    Slower,
    VariationalDropout,
    Zoneout,
    explain,
    unroll,
)
from jaxrnn.strategies import Resident
from jaxrnn.strategies.devices import Part

T, B = 5, 3
XS = jax.random.normal(jax.random.key(1), (T, B, 3))
MASK = jax.random.bernoulli(jax.random.key(2), 0.7, (T, B))
RESET = jax.random.bernoulli(jax.random.key(3), 0.4, (T, B))
BOTH = {"mask": MASK, "reset": RESET}
CELL = LSTM(3, 5)
PARAMS = CELL.init(jax.random.key(0))
ON_CPU = Resident(interpret=True)
RACES = Resident(interpret=pltpu.InterpretParams(detect_races=True))


def moved(tree):
    """Other numbers than `init` gives: no zeros and no ones."""

    def move(a):
        return a + 0.1 * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)

    return jax.tree.map(move, tree)


@partial(jax.jit, static_argnums=(0, 1, 2))
def value_and_gradients(cell, strategy, reverse, params, xs, start, flags):
    """(carry, ys), and gradients by params, xs, the carry and the start."""

    def loss(params, xs, carry, start):
        out = unroll(
            cell,
            params,
            xs,
            carry,
            start=start,
            reverse=reverse,
            strategy=strategy,
            **flags,
        )
        leaves = (jnp.sum(jnp.sin(a.astype(jnp.float32))) for a in jax.tree.leaves(out))
        return sum(leaves, jnp.float32(0)), out

    carry = jax.tree.map(lambda a: a / 2, start)
    by_all = jax.grad(loss, (0, 1, 2, 3), has_aux=True)
    return by_all(params, xs, carry, start)


def no_races():
    # Where the interpreter keeps what it found; JAX 0.12 raises by itself.
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call

    found = interpret_pallas_call.races
    return found is not None and not found.races_found


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, batch, dtype, reverse, flags",
    [
        (LSTM(3, 5), (B,), "float32", False, BOTH),
        (GRU(3, 7), (1, B), "float32", True, {"reset": RESET}),
        (PeepholeLSTM(3, 5), (B,), "bfloat16", True, BOTH),
        (LayerNormLSTM(3, 4), (), "float32", False, {"mask": MASK}),
    ],
    ids=["LSTM", "GRU", "PeepholeLSTM", "LayerNormLSTM"],
)
def test_value_and_gradients_are_those_of_scan_and_nothing_races(
    cell, batch, dtype, reverse, flags
):
    params = moved(cell.init(jax.random.key(0), dtype))
    xs = XS.astype(dtype)
    xs, flags = jax.tree.map(lambda a: a[:, 0] if batch == () else a, (xs, flags))
    if batch == (1, B):
        xs, flags = jax.tree.map(lambda a: a[:, None], (xs, flags))
    start = moved(cell.initial_carry(params, batch))
    given = params, xs, start, flags
    got = value_and_gradients(cell, RACES, reverse, *given)
    assert no_races()
    want = value_and_gradients(cell, "scan", reverse, *given)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    # bfloat16 has 8 bits: a last one of the largest gradients is here 0.03.
    tolerance = 1e-6 if dtype == "float32" else 2**-5
    chex.assert_trees_all_close(got, want, atol=tolerance, rtol=tolerance)


def test_it_maps_and_recomputes_and_runs_a_single_step():
    def loss(params, xs, **how):
        return jnp.sum(unroll(CELL, params, xs, **how)[1] ** 2)

    def by(strategy, xs, **how):
        run = jax.grad(partial(loss, strategy=strategy, **how), (0, 1))
        return jax.jit(jax.vmap(run, (None, 1)))(PARAMS, xs)

    chex.assert_trees_all_close(
        by(ON_CPU, XS, checkpoint_every=2), by("scan", XS), atol=1e-6
    )
    chex.assert_trees_all_close(
        unroll(CELL, PARAMS, XS[:1], strategy=ON_CPU),
        unroll(CELL, PARAMS, XS[:1], strategy="scan"),
        atol=1e-6,
    )


def test_it_is_differentiated_once_and_in_reverse_mode():
    def loss(xs):
        return jnp.sum(unroll(CELL, PARAMS, xs, strategy=ON_CPU)[1] ** 2)

    with pytest.raises(ValueError, match="differentiated once, in reverse mode: take"):
        jax.eval_shape(jax.grad(lambda xs: jnp.sum(jax.grad(loss)(xs))), XS)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, (XS,), (XS,))


def test_a_program_for_a_tpu_is_exported_from_any_host():
    def loss(params, xs, mask):
        return jnp.sum(unroll(CELL, params, xs, mask=mask, strategy="resident")[1])

    run = jax.jit(jax.grad(loss, (0, 1)))
    exported = jax.export.export(run, platforms=["tpu"])(PARAMS, XS, MASK)
    program = exported.mlir_module()
    assert program.count("@tpu_custom_call(") == 2  # the loop and the loop back
    assert "stablehlo.while" not in program
    read = jax.export.deserialize(exported.serialize())
    assert read.out_avals == exported.out_avals


def test_only_what_is_asked_for_runs_it():
    why = "it was never timed on hardware"
    also = re.escape(f"; on tpu resident would serve it if asked for ({why})")
    assert re.fullmatch(f"LSTM: fused, because [^;]*{also}", explain(CELL))
    assert "resident" not in explain(ResetBeforeGRU(3, 4))
    assert explain(CELL, strategy="resident").splitlines() == [
        "LSTM on cpu and gpu: refused, because its kernel is for TPUs alone",
        "LSTM on tpu: resident, because it was asked for",
    ]
    assert explain(CELL, strategy=Resident()) == explain(CELL, strategy="resident")
    with pytest.raises(ValueError, match="'resident' cannot serve LSTM on cpu and gpu"):
        unroll(CELL, PARAMS, XS, strategy="resident")


def noisy(cell):
    params = cell.init(jax.random.key(0))
    return cell, cell.with_noise(params, jax.random.key(1), T, (B,)), XS


@pytest.mark.parametrize(
    "given, why",
    [
        ((ResetBeforeGRU(3, 4),), "does not split into mix and gate"),
        ((Slower(GRU(3, 4), 2),), "row of its carry is no vector.* but int32\\[\\]"),
        ((ConvLSTM(2, 3, (3, 2)),), "no vector.* but float32\\[3, 2, 3\\]"),
        ((Part.of(CELL, "model", 1),), "cannot ask other devices for their units"),
        ((LSTM(3, 3000),), "need 138 MiB of VMEM or more, and it may take 96"),
        (noisy(Zoneout(LSTM(3, 4), 0.2)), "row of its u is no vector .* but bool\\[4\\]"),
        (noisy(VariationalDropout(GRU(3, 4), 0.2)), "parameters of each row"),
        ((CELL, PARAMS, jnp.zeros((T, 0, 3))), "no empty batch"),
    ],
    ids=[
        "two products",
        "a count",
        "in space",
        "shared",
        "large",
        "noise",
        "noise of rows",
        "empty",
    ],
)
def test_what_it_cannot_serve_it_declines(given, why):
    sentence = f"cannot serve {type(given[0]).__name__}: .*{why}"
    for strategy in "resident", ON_CPU:
        with pytest.raises(ValueError, match=sentence):
            explain(*given, strategy=strategy)


@pytest.mark.parametrize("vmem", [0, -1, 2.0, True])
def test_no_memory_is_refused(vmem):
    with pytest.raises(ValueError, match=f"vmem of 1 MiB or more, got {vmem!r}"):
        Resident(vmem)
