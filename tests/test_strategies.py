"""Strategies as objects: what `unroll` takes, what they are told, and the platform."""

from dataclasses import dataclass
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn.testing
from jaxrnn import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    LearnedStart,
    MinGRU,
    ResetBeforeGRU,
    Slower,
    Stack,
    Zoneout,
    explain,
    unroll,
)
from jaxrnn.strategies import Associative, Chunkwise, Fused, Scan, Strategy

T, B = 7, 2
XS = jax.random.normal(jax.random.key(1), (T, B, 3))
MASK = jnp.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [1, 0], [0, 1]], bool)
RESET = jnp.array([[0, 1], [0, 0], [1, 0], [0, 1], [0, 0], [1, 0], [0, 0]], bool)
FLAGS = {"mask": MASK, "reset": RESET}
CELL = LSTM(3, 4)
PARAMS = CELL.init(jax.random.key(0))


def gradients(recurrence, params, strategy, start=None, **options):
    """(carry, ys), and gradients by params and start."""

    def loss(params, start):
        outputs = unroll(
            recurrence, params, XS, start=start, strategy=strategy, **FLAGS, **options
        )
        return jnp.sum(outputs[1] ** 2), outputs

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True, allow_int=True))(params, start)


def numbers(tree):
    return [a for a in jax.tree.leaves(tree) if a.dtype != jax.dtypes.float0]


def test_strategies_print_compare_and_hash_by_value():
    assert repr(Chunkwise(length=3)) == "Chunkwise(length=3)"
    assert Chunkwise() == Chunkwise(64) != Chunkwise(3)
    assert len({Scan(), Scan(), Fused(), Associative(), Chunkwise(), Chunkwise(64)}) == 4


@pytest.mark.parametrize(
    "name, strategy, cell",
    [
        ("scan", Scan(), CELL),
        ("fused", Fused(), CELL),
        ("associative", Associative(), MinGRU(3, 4)),
        ("chunkwise", Chunkwise(), MLSTM(3, 4)),
    ],
)
def test_a_name_stands_for_an_instance(name, strategy, cell):
    params = cell.init(jax.random.key(0))
    programs = [
        str(jax.make_jaxpr(partial(unroll, cell, strategy=given))(params, XS))
        for given in (name, strategy)
    ]
    assert programs[0] == programs[1]
    assert explain(cell, strategy=strategy) == explain(cell, strategy=name)


@pytest.mark.parametrize("length", [0, -1, 2.0, True, None])
def test_a_length_of_no_steps_is_refused(length):
    with pytest.raises(ValueError, match=f"length of 1 or more, got {length!r}"):
        Chunkwise(length)


@dataclass  # not frozen, so it does not hash
class Unhashable(Strategy):
    def over_time(self, call):
        return Scan().over_time(call)


@pytest.mark.parametrize("given", ["quick", None, 3, ["scan"], Scan, Unhashable()])
def test_what_is_no_strategy_is_refused(given):
    for call in (unroll, explain):
        with pytest.raises(ValueError, match="known: auto, fused|hashes by value"):
            call(CELL, PARAMS, XS, strategy=given)


@dataclass(frozen=True)
class ByHand(Strategy):
    """A loop in Python, for even batches."""

    why = "it is a loop in Python"

    def refusal(self, call, platform):
        batch = call.carry.h.shape[0]
        return f"a batch of {batch} is odd" if batch % 2 else None

    def over_time(self, call):
        carry, ys = call.carry, []
        assert call.mask is None and call.reset is None and not call.own_start
        times = range(call.length)
        for t in reversed(times) if call.reverse else times:
            u = call.cell.project(call.params, call.inputs[t])
            carry, y = call.cell.recur(call.params, carry, u)
            ys.append(y)
        return carry, jnp.stack(ys[::-1] if call.reverse else ys)


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint_every": 3}])
def test_a_strategy_of_ones_own_runs(options):
    stack = Stack((GRU(3, 4), LSTM(4, 4)))
    params = stack.init(jax.random.key(0))
    got = unroll(stack, params, XS, strategy=ByHand(), **options)
    chex.assert_trees_all_close(got, unroll(stack, params, XS, **options), atol=1e-5)
    assert explain(stack, params, XS, strategy=ByHand()).startswith(
        "GRU: ByHand(), because"
    )


def test_a_strategy_of_ones_own_declines_by_shape():
    odd = "ByHand\\(\\) cannot serve LSTM: a batch of 1 is odd"
    for call in (unroll, explain):
        with pytest.raises(ValueError, match=odd):
            call(CELL, PARAMS, XS[:, :1], strategy=ByHand())


@dataclass(frozen=True)
class Kernel(Scan):
    """One that stands for a kernel of one platform."""

    platform: str

    def refusal(self, call, platform):
        return None if platform == self.platform else f"it has no {platform}"


def test_a_kernel_is_refused_where_a_program_is_for_another_platform():
    run = jax.jit(partial(unroll, CELL, strategy=Kernel("tpu")))
    lowered = run.trace(PARAMS, XS).lower(lowering_platforms=("tpu",))
    assert "stablehlo.while" in lowered.as_text()
    no_gpu = "cannot serve LSTM on cpu and gpu: it has no cpu; it has no gpu"
    with pytest.raises(ValueError, match=no_gpu):
        run.trace(PARAMS, XS).lower(lowering_platforms=("cuda",))
    if jax.default_backend() == "cpu":
        for call in (run, jax.disable_jit()(partial(unroll, CELL, strategy=Kernel("tpu")))):
            with pytest.raises(ValueError, match=no_gpu):
                call(PARAMS, XS)
        here = unroll(CELL, PARAMS, XS, strategy=Kernel("cpu"))
        chex.assert_trees_all_equal(here, unroll(CELL, PARAMS, XS, strategy="scan"))
    on_cpu, on_others = explain(CELL, strategy=Kernel("cpu")).splitlines()[:2]
    assert on_cpu == "LSTM on cpu: Kernel(platform='cpu'), because it was asked for"
    assert on_others == "LSTM on gpu: refused, because it has no gpu"
    with pytest.raises(ValueError, match="it has no cpu; it has no gpu; it has no tpu"):
        unroll(CELL, PARAMS, XS, strategy=Kernel("abacus"))


def test_explain_takes_what_unroll_takes():
    stack = Stack((CELL, ResetBeforeGRU(4, 4)))
    shapes = jax.eval_shape(stack.init, jax.random.key(0))
    flags = jax.ShapeDtypeStruct((T, B), bool)
    xs = jax.ShapeDtypeStruct((T, B, 3), jnp.float32)
    given = explain(stack, shapes, xs, None, mask=flags, reset=flags, checkpoint_every=2)
    assert given == explain(stack) and len(given.splitlines()) == 2
    with pytest.raises(ValueError, match=r"mask must be .* = \[7, 2\]"):
        explain(stack, shapes, xs, mask=MASK[:3])
    with pytest.raises(ValueError, match="'associative' cannot serve LSTM"):
        explain(stack, shapes, xs, strategy=Associative())


def close(got, want):
    """Relative to the largest number of each leaf."""
    for a, b in zip(numbers(got), numbers(want), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1, np.abs(b).max())


@pytest.mark.slow
def test_blocks_of_any_length_agree_with_scan_from_a_start_that_is_given():
    cell = MLSTM(3, 4, heads=2)
    params = cell.init(jax.random.key(0))
    start, _ = unroll(cell, params, XS, strategy="scan")  # whose parts belong together
    run = partial(gradients, cell, params, start=start, checkpoint_every=5, reverse=True)
    close(run(Chunkwise(length=3)), run("scan"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, reverse",
    [
        (LearnedStart(MLSTM(3, 4, heads=2)), False),
        (LearnedStart(Slower(MLSTM(3, 4), 3)), True),
        (Slower(LearnedStart(LRU(3, 4, state_size=5)), 2), False),
        (Zoneout(LearnedStart(MinGRU(3, 4)), 0.2), True),
    ],
    ids=repr,
)
def test_a_wrapper_keeps_what_its_cell_can_do(cell, reverse):
    in_parallel = Chunkwise(3) if isinstance(cell.core, MLSTM) else Associative()
    name = type(in_parallel).__name__.lower()
    assert f": {name}, because" in explain(cell)
    params, start, _ = jaxrnn.testing.example(cell, (B,))
    run = partial(gradients, cell, params, start=start, reverse=reverse)
    close(run(in_parallel), run("scan"))
    jaxrnn.testing.an_array_cut_over_a_mesh_is_run_where_it_lies(cell)


def test_parallel_strategies_agree_on_noise_and_a_start_in_the_middle():
    noisy = Zoneout(MinGRU(3, 4), (0.5,))
    params = noisy.init(jax.random.key(0))
    params = noisy.with_noise(params, jax.random.key(2), T, (B,))
    slower = Slower(MinGRU(3, 4), 3)
    slow_params = slower.init(jax.random.key(0))
    start, _ = unroll(slower, slow_params, XS)
    assert start.age[0] != 0
    for recurrence, own, begin in (noisy, params, None), (slower, slow_params, start):
        run = partial(gradients, recurrence, own, start=begin)
        close(run("associative"), run("scan"))


def test_zoneout_of_a_carry_that_is_not_its_output_is_not_linear():
    cell = Zoneout(LRU(3, 4), 0.2)
    with pytest.raises(ValueError, match="cannot serve Zoneout: its carry does not enter"):
        explain(cell, strategy="associative")


def modes(strategy, params, xs):
    """Of MinGRU, in every mode of differentiation and inside other transformations."""
    cell = MinGRU(3, 2)

    def loss(params, xs, **options):
        _, ys = unroll(cell, params, xs, strategy=strategy, **options)
        return jnp.sum(ys**2)

    def along(params):
        return jax.jvp(lambda p: loss(p, xs, **FLAGS), (params,), (params,))[1]

    def by_bias(b):
        return loss(params._replace(b=b), xs, reset=RESET)

    def over_two(params):
        def add(total, xs):
            return total + loss(params, xs), None

        return jax.lax.scan(add, 0.0, jnp.stack([xs, 2 * xs]))[0]

    backwards = jax.checkpoint(partial(loss, reverse=True))
    return {
        "jvp": along(params),
        "grad of jvp": jax.grad(along)(params),
        "linearize": jax.linearize(lambda xs: loss(params, xs, mask=MASK), xs)[1](xs),
        "hessian": jax.hessian(by_bias)(params.b),
        "remat": jax.grad(backwards)(params, xs),
        "segments": jax.grad(partial(loss, checkpoint_every=3, **FLAGS))(params, xs),
        "vmap": jax.vmap(jax.grad(loss), (None, 1))(params, xs),
        "scan": jax.grad(over_two)(params),
    }


@pytest.mark.slow
def test_the_choice_of_a_platform_passes_every_transformation():
    params = MinGRU(3, 2).init(jax.random.key(0))
    run = jax.jit(modes, static_argnums=0)
    got = run("auto", params, XS)
    chex.assert_trees_all_close(got, run("associative", params, XS), atol=1e-4)
    chex.assert_trees_all_close(got, run("scan", params, XS), atol=1e-4)
    traced = run.trace("auto", params, XS)
    loops = {
        platform: traced.lower(lowering_platforms=(platform,))
        .as_text()
        .count("stablehlo.while")
        for platform in ("cpu", "cuda", "tpu")
    }
    # That of segments forth and back, and that over two inputs; the rest is in parallel.
    assert loops["cpu"] > 12 and loops["cuda"] == loops["tpu"] == 4, loops
