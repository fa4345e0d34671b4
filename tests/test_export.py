"""What `jax.export` writes is read back and computes the same, of any length and batch."""

import inspect

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import export
from recurrences import EVERY, RECURRENCES

import jaxrnn
from jaxrnn import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    Bidirectional,
    Carousel,
    Cell,
    GatedDeltaNet,
    LearnedStart,
    MinGRU,
    MinLSTM,
    Slower,
    Stack,
    Zoneout,
    unroll,
)
from jaxrnn.flax import RNN
from jaxrnn.models import LanguageModel, SequenceModel, attention, transformer, translator

pytest.importorskip("flatbuffers")  # what an export is written with

T, B = 3, 2


def over_time(recurrence, **options):
    def run(params, carry, xs, mask):
        return unroll(recurrence, params, xs, carry, mask=mask, **options)

    return jax.jit(run)


def shapes(recurrence, params):
    t, b = export.symbolic_shape("t, b")
    carry = jax.eval_shape(lambda p: recurrence.initial_carry(p, (b,)), params)
    xs = jax.ShapeDtypeStruct((t, b, *recurrence.input_shape), jnp.float32)
    return jax.eval_shape(lambda: params), carry, xs, jax.ShapeDtypeStruct((t, b), bool)


def numbers(recurrence, params, length=T):
    carry = recurrence.initial_carry(params, (B,))
    xs = jax.random.normal(jax.random.key(1), (length, B, *recurrence.input_shape))
    return params, carry, xs, jnp.ones((length, B), bool).at[-1, 0].set(False)


def read_back(run, *arguments):
    return export.deserialize(export.export(run)(*arguments).serialize())


def test_every_recurrence_is_read_back_for_any_length_and_batch():
    for recurrence in RECURRENCES:
        params = jax.eval_shape(recurrence.init, jax.random.key(0))
        exported = export.export(over_time(recurrence))(*shapes(recurrence, params))
        got = export.deserialize(exported.serialize())
        assert (got.in_tree, got.out_tree) == (exported.in_tree, exported.out_tree)


@pytest.mark.parametrize(
    "recurrence",
    [
        LSTM(3, 4),
        MLSTM(3, 4),
        GatedDeltaNet(3, 4),
        MinGRU(3, 4),
        Stack((Bidirectional(GRU(3, 2), LSTM(3, 2)),)),
    ],
    ids=repr,
)
def test_what_is_read_back_computes_the_same(recurrence):
    params = jax.jit(recurrence.init)(jax.random.key(0))
    run, given = over_time(recurrence), numbers(recurrence, params)
    got = read_back(run, *shapes(recurrence, params))
    chex.assert_trees_all_close(got.call(*given), run(*given), atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("every", [None, 2])
def test_blocks_of_time_are_cut_where_the_length_is_known_at_last(every, reverse):
    cell = MLSTM(3, 4)
    params = cell.init(jax.random.key(0))
    run = over_time(cell, checkpoint_every=every, reverse=reverse)
    got = export.export(run)(*shapes(cell, params))
    for length in (1, 2, 65):
        given = numbers(cell, params, length)
        chex.assert_trees_all_close(got.call(*given), run(*given), atol=1e-5)


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize(
    "cell, strategy",
    [(LSTM(3, 4), "fused"), (LSTM(3, 4), "scan"), (MLSTM(3, 4), "chunkwise")],
)
def test_each_strategy_that_can_is_read_back_for_any_length(cell, strategy, every):
    params = cell.init(jax.random.key(0))
    run = over_time(cell, strategy=strategy, checkpoint_every=every)
    got = read_back(run, *shapes(cell, params))
    given = numbers(cell, params, length=5)
    chex.assert_trees_all_close(got.call(*given), run(*given), atol=1e-5)


MODELS = {
    "language model": lambda rngs: LanguageModel(7, 3, [LSTM(3, 4)], rngs=rngs),
    "sequence model": lambda rngs: SequenceModel([GRU(3, 4)], 2, rngs=rngs),
    "module": lambda rngs: RNN(Bidirectional(GRU(3, 4), LSTM(3, 4)), rngs=rngs),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_read_back_for_any_length_and_batch(make):
    model = make(nnx.Rngs(0))
    reads = isinstance(model, LanguageModel)
    tail, dtype = ((), jnp.int32) if reads else ((3,), jnp.float32)
    xs = jax.ShapeDtypeStruct((*export.symbolic_shape("t, b"), *tail), dtype)
    got = export.export(jax.jit(lambda xs: model(xs)[1]))(xs)
    given = jnp.ones((5, B, *tail), dtype)
    chex.assert_trees_all_close(got.call(given), model(given)[1], atol=1e-5)


def test_params_with_noise_are_read_back():
    cell = Zoneout(LSTM(3, 4), 0.2)
    params = cell.with_noise(cell.init(jax.random.key(0)), jax.random.key(1), T, (B,))
    run, given = over_time(cell), numbers(cell, params)
    got = read_back(run, *given)
    chex.assert_trees_all_close(got.call(*given), run(*given), atol=1e-6)


def held(recurrence):
    """The loops over time that the exports of a forward pass and its gradient hold."""
    params = jax.eval_shape(recurrence.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((T, B, *recurrence.input_shape), jnp.float32)
    flags = jax.ShapeDtypeStruct((T, B), bool)

    def forward(params, xs, mask, reset):
        return unroll(recurrence, params, xs, mask=mask, reset=reset)

    def gradient(params, *arrays):
        def loss(params):
            return jnp.sum(forward(params, *arrays)[1])

        return jax.grad(loss, allow_int=True)(params)

    loops = {}
    for run in map(jax.jit, (forward, gradient)):
        for platform in ("cpu", "cuda", "tpu"):
            exported = export.export(run, platforms=[platform])(params, xs, flags, flags)
            got = export.deserialize(exported.serialize())
            assert got.platforms == (platform,)
            loops.setdefault(platform, []).append(loops_of(got))
    return loops


def loops_of(exported):
    """Those over time: JAX 0.12 writes a cumulative sum for a GPU as a loop too, which
    XLA knows again."""
    functions = exported.mlir_module().split("func.func")
    return sum(f.count("stablehlo.while") for f in functions if "@chlo.scan" not in f[:40])


def cells_of(recurrence):
    if isinstance(recurrence, Cell):
        return [recurrence]
    return [cell for part in recurrence.parts for cell in cells_of(part)]


WRAPPED = [LearnedStart(MinLSTM(3, 4)), Slower(LRU(3, 4), 2), Zoneout(MinGRU(3, 4), 0.2)]


@pytest.mark.parametrize("recurrence", EVERY + WRAPPED)
def test_an_export_holds_the_strategy_of_the_platform_it_is_for(recurrence):
    loops = held(recurrence)
    # Linear recurrences are in parallel on accelerators, those with blocks everywhere.
    cells = [cell.core for cell in cells_of(recurrence)]
    elsewhere = sum(not cell.linear and not cell.chunks for cell in cells)
    on_cpu = sum(not cell.chunks for cell in cells)
    assert loops["cpu"][0] == on_cpu
    assert loops["cuda"][0] == loops["tpu"][0] == elsewhere
    # A carousel's carry is a sum: its way back needs no loop forth.
    back = 1 if any(isinstance(cell, Carousel) for cell in cells) else 2
    assert loops["cpu"][1] == back * on_cpu
    assert loops["cuda"][1] == loops["tpu"][1] == back * elsewhere


@pytest.mark.parametrize("cell", [MLSTM(3, 4), GatedDeltaNet(3, 4), MinGRU(3, 4)], ids=repr)
def test_one_export_for_several_platforms_serves_each(cell):
    params = jax.jit(cell.init)(jax.random.key(0))
    run, given = over_time(cell), numbers(cell, params)
    exported = export.export(run, platforms=["cpu", "cuda", "tpu"])(*given)
    got = export.deserialize(exported.serialize())
    if jax.default_backend() == "cpu":
        chex.assert_trees_all_close(got.call(*given), run(*given), atol=1e-6)


def test_of_an_unknown_length_a_linear_recurrence_is_a_loop_everywhere():
    cell = MinGRU(3, 4)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    run = export.export(over_time(cell), platforms=["cuda", "tpu"])
    assert loops_of(run(*shapes(cell, params))) == 1
    with pytest.raises(ValueError, match="takes no length that is still unknown"):
        export.export(over_time(cell, strategy="associative"))(*shapes(cell, params))


def test_a_step_of_any_batch_is_read_back():
    cell = LSTM(3, 4)
    params = cell.init(jax.random.key(0))
    params, carry, xs, _ = shapes(cell, params)
    got = read_back(
        jax.jit(cell.step), params, carry, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    )
    params, carry, xs, _ = numbers(cell, cell.init(jax.random.key(0)))
    chex.assert_trees_all_close(
        got.call(params, carry, xs[0]), cell.step(params, carry, xs[0]), atol=1e-6
    )


def named_tuples():
    for module in (jaxrnn, attention, transformer, translator):
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and issubclass(kind, tuple):
                yield name, kind


@pytest.mark.parametrize("name, kind", list(named_tuples()))
def test_the_name_in_what_is_written_stays_the_same(name, kind):
    """JAX tells the name of a kind that is registered already."""
    with pytest.raises(ValueError, match=f"serialized_name `jaxrnn.{name}`"):
        export.register_namedtuple_serialization(kind, serialized_name="another")
