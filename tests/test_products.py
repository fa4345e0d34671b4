"""Models whose products of matrices are in bfloat16, and everything else in float32."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_precision import equations

from experiments.language_model.config import PRESETS as LANGUAGE_MODEL
from experiments.language_model.problem import make_problem as language_model
from experiments.sentiment.config import PRESETS as SENTIMENT
from experiments.sentiment.problem import make_problem as sentiment
from experiments.translation.config import PRESETS as TRANSLATION
from experiments.translation.problem import make_problem as translation
from jaxrnn import LSTM, Precision
from jaxrnn.models import LanguageModel
from jaxrnn.models.products import Products
from jaxrnn.training.trainer import Trainer


def test_a_product_in_bfloat16_rounds_what_it_takes_and_adds_up_in_float32():
    rows, dtype = 4096, jnp.bfloat16
    xs = jax.random.normal(jax.random.key(0), (64, 64, 8))
    w, ct = jax.random.normal(jax.random.key(1), (8, 3)), jnp.ones((64, 64, 3))
    dims = (((2,), (0,)), ((), ()))

    def multiply(xs, w):
        return Products("bfloat16")(xs, w, dims)

    ys, pull = jax.vjp(multiply, xs, w)
    assert ys.dtype == jnp.float32
    rounded = [np.asarray(a.astype(dtype), np.float64) for a in (xs, w)]
    np.testing.assert_allclose(ys, rounded[0] @ rounded[1], rtol=1e-2, atol=1e-2)
    xs_ct, w_ct = pull(ct)
    assert xs_ct.dtype == w_ct.dtype == jnp.float32
    want = rounded[0].reshape(rows, 8).T @ np.ones((rows, 3))
    np.testing.assert_allclose(w_ct, want, rtol=1e-2, atol=0.3)


def test_a_product_in_float32_is_that_of_jax():
    xs, w = jax.random.normal(jax.random.key(0), (2, 5, 5))
    dims = (((1,), (0,)), ((), ()))
    np.testing.assert_array_equal(Products()(xs, w, dims), xs @ w)


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="'float32' or 'bfloat16', got 'float8'"):
        LanguageModel(3, 4, [LSTM(4, 4)], precision="float8", rngs=nnx.Rngs(0))  # type: ignore


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_has_its_logits_and_gradients_in_float32(tied):
    def model(precision, layer):
        return LanguageModel(
            11, 6, [layer], tied=tied, precision=precision, rngs=nnx.Rngs(params=0)
        )

    tokens = jax.random.randint(jax.random.key(0), (7, 3), 0, 11)
    exact = model("float32", LSTM(6, 5))
    narrow = model("bfloat16", Precision(LSTM(6, 5), "bfloat16"))
    carry, logits = narrow(tokens)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((carry, logits))} == {"float32"}
    difference = np.abs(logits - exact(tokens)[1]).max()
    assert 1e-5 < difference < 0.05


def language_model_of(tmp_path, **options):
    text = tmp_path / "text"
    text.write_text("to be, or not to be: that is the question. " * 60)
    preset = LANGUAGE_MODEL["tiny"][1]
    return language_model(replace(preset, data=text, tokens="byte", **options))


def problem_of(name, tmp_path, **options):
    match name:
        case "language model":
            return language_model_of(tmp_path, **options)
        case "tied":
            return language_model_of(tmp_path, tied=True, **options)
        case "sentiment":
            return sentiment(replace(SENTIMENT["tiny"][1], **options))
        case "translation":
            return translation(replace(TRANSLATION["tiny"][1], **options))
        case "transformer":
            transformer = {"model": "transformer", "embedding_size": 16, "heads": 2}
            return translation(replace(TRANSLATION["tiny"][1], **transformer, **options))


@pytest.mark.parametrize(
    "name",
    [
        "language model",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("tied", "sentiment", "translation", "transformer")
        ),
    ],
)
def test_every_experiment_learns_in_bfloat16_as_it_does_in_float32(name, tmp_path):
    def losses(precision):
        problem = problem_of(name, tmp_path, precision=precision)
        trainer = Trainer(problem, optax.adam(1e-2))
        state, seen = trainer.init(0), []
        for step in range(8):
            state, metrics = trainer.step(state, trainer.batch(step))
            seen.append(float(metrics["loss"]))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state.carry)} <= {"float32"}
        found = (
            {v.aval.dtype.name for v in equation.invars}
            for equation in equations(trainer._step.trace(state, trainer.batch(0)).jaxpr)
            if equation.primitive.name == "dot_general"
        )
        return np.array(seen), set().union(*found)

    exact, in_float32 = losses("float32")
    near, in_bfloat16 = losses("bfloat16")
    assert in_float32 == {"float32"} and "bfloat16" in in_bfloat16
    assert 1e-7 < np.abs(near - exact).max() < 0.03
