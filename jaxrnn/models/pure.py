"""A Flax NNX model as pure functions, as JAX's transformations and training want it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
from flax import nnx
from jax import Array

Model = TypeVar("Model", bound=nnx.Module)


class Pure(Generic[Model]):
    """The model that `make(key)` makes, apart from its parameters.

        params = pure.init(key)        a pure function of the key
        model = pure(params)           the model with these parameters

    `like` has the shapes and dtypes of the params. Raises whatever `make` raises.
    """

    def __init__(self, make: Callable[[Array], Model]) -> None:
        self._make = make
        abstract = nnx.eval_shape(lambda: make(jax.random.key(0)))
        self._graph, self.like = nnx.split(abstract)

    def init(self, key: Array) -> Any:
        return nnx.split(self._make(key))[1]

    def __call__(self, params: Any) -> Model:
        # A copy of the variables, or what is done to the model is done to `params`.
        return nnx.merge(self._graph, params, copy=True)
