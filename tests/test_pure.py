"""A model apart from its parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrnn import GRU, LSTM
from jaxrnn.models import LanguageModel, Pure

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 7, (5, 2)), jnp.int32)


def make(key):
    layers = LSTM(4, 5), GRU(5, 3)
    return LanguageModel(7, 4, layers, dropout=0.5, rngs=nnx.Rngs(params=key))


@pytest.fixture(scope="module")
def pure():
    return Pure(make)


def test_its_parameters_are_those_of_the_model_made_directly(pure):
    for seed in (0, 1):
        model = make(jax.random.key(seed))
        params = pure.init(jax.random.key(seed))
        chex.assert_trees_all_equal(params, nnx.state(model))
        chex.assert_trees_all_equal(pure(params)(TOKENS), model(TOKENS))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), pure.like)
    assert jax.tree.structure(params) == jax.tree.structure(pure.like)


def test_beginning_is_a_pure_function_of_the_key_that_may_be_transformed(pure):
    keys = jax.random.split(jax.random.key(0), 3)
    side_by_side = jax.jit(jax.vmap(pure.init))(keys)
    for number, key in enumerate(keys):
        one = jax.tree.map(lambda leaf: leaf[number], side_by_side)  # noqa: B023
        chex.assert_trees_all_close(one, pure.init(key), rtol=1e-5, atol=1e-6)
    first, again = pure.init(keys[0]), pure.init(keys[0])
    chex.assert_trees_all_equal(first, again)
    assert first is not again


def test_a_model_is_made_once_to_know_it_and_once_to_compile_how_it_begins():
    made = []
    pure = Pure(lambda key: made.append(key) or make(key))
    begin = jax.jit(pure.init)
    begin(jax.random.key(0)), begin(jax.random.key(1))
    pure(pure.like)
    assert len(made) == 2


def test_asking_a_model_again_traces_nothing_anew(pure):
    traced = []

    @jax.jit
    def run(params, tokens):
        traced.append(tokens.shape)
        return pure(params)(tokens)[1]

    params = [pure.init(jax.random.key(seed)) for seed in (0, 1)]
    first, other, again = (run(params[n], TOKENS) for n in (0, 1, 0))
    assert traced == [(5, 2)]
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first, other)


def test_what_is_done_to_one_model_is_done_to_no_other(pure):
    params = pure.init(jax.random.key(0))
    changed, plain = pure(params), pure(params)
    before = plain(TOKENS)[1]
    changed.output.bias[...] = jnp.ones(7)
    chex.assert_trees_all_equal(plain(TOKENS)[1], before)
    chex.assert_trees_all_equal(pure(params)(TOKENS)[1], before)


def test_a_model_that_cannot_be_is_refused_before_it_is_begun():
    def make_wrongly(key):
        return LanguageModel(7, 4, [LSTM(5, 3)], rngs=nnx.Rngs(params=key))

    with pytest.raises(ValueError, match="takes 5 features, not 4"):
        Pure(make_wrongly)
