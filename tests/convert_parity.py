"""What the tests of the conversions share: one comparison, at random sizes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import unroll

T, B = 6, 2


class Precision(NamedTuple):
    """A dtype, the tolerance it is held to, and the seed of everything random."""

    dtype: Any
    tolerance: float
    seed: int

    @property
    def random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def sizes(self) -> tuple[int, int]:
        """D and H."""
        return tuple(int(n) for n in self.random.choice(np.arange(2, 8), 2, replace=False))

    def draw(self, *shape: int, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng((self.seed, seed))
        return generator.normal(size=shape).astype(self.dtype)

    def like(self, tree: Any) -> Any:
        """Random arrays in the shapes of a tree, so that no bias is zero."""
        leaves, form = jax.tree.flatten(tree)
        draws = [self.draw(*leaf.shape, seed=n) / 2 for n, leaf in enumerate(leaves)]
        return jax.tree.unflatten(form, [jnp.asarray(x) for x in draws])


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    single = Precision(np.float32, 1e-5, seed=1)
    double = Precision(np.float64, 1e-10, seed=2)
    wide = request.param == "float64"
    with jax.enable_x64(wide):
        yield double if wide else single


def converted(convert):
    """The recurrence that `convert` makes of weights, run over time."""

    def model(weights, xs):
        recurrence, params = convert(weights)
        return unroll(recurrence, params, xs)

    return model


def run(model, weights, xs):
    """The final carry, ys, and the gradients of a weighted sum of ys."""

    def loss(weights, xs):
        carry, ys = model(weights, xs)
        cotangent = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        return jnp.sum(ys * cotangent), (carry, ys)

    # Quick to compile: the numbers are few.
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True), compiler_options=options)
    gradients, (carry, ys) = gradient(weights, xs)
    return carry, ys, gradients


def assert_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def assert_same_function(convert, peer, weights, precision, *input_shape):
    """Holds the converted weights to `peer(weights, xs) -> (carry, ys)`: the outputs and
    their gradients in the weights, as the peer lays them out, and in xs.

    Returns our final carry and the peer's.
    """
    xs = jnp.asarray(precision.draw(T, B, *input_shape, seed=99))
    carry, ys, gradients = run(converted(convert), weights, xs)
    # Peers promote dtypes freely.
    with jax.numpy_dtype_promotion("standard"):
        peer_carry, peer_ys, peer_gradients = run(peer, weights, xs)
    assert_close(ys, peer_ys, precision.tolerance)
    assert_close(gradients, peer_gradients, precision.tolerance)
    return carry, peer_carry


def assert_equal(actual, expected):
    """The same tree, bit for bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def random_params(recurrence, precision):
    shapes = jax.eval_shape(recurrence.init, jax.random.key(0))
    return precision.like(shapes)
