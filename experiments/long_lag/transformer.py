"""The Transformer (Vaswani et al. 2017) in the place of a cell, for comparison."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flax import nnx
from jax import Array

from jaxrnn.models import CausalTransformer
from jaxrnn.models.transformer import check_width


@dataclass(frozen=True)
class TransformerNetwork:
    """y = layers(x W + b + position), each looking back only; z = y W_z + b_z.

    Called as a `Network` is: xs `[T, ..., D]` gives z `[T, ..., output_size]`, by a
    `CausalTransformer` whose layers are twice as wide inside. Raises ValueError if the
    width is odd or no multiple of the heads.
    """

    input_size: int
    output_size: int
    width: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        check_width(self.width, self.heads)

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.graphdef(nnx.eval_shape(lambda: self._make(nnx.Rngs(0))))

    def init(self, key: Array) -> Any:
        return nnx.state(self._make(nnx.Rngs(key)))

    def __call__(self, params: Any, xs: Array) -> Array:
        return nnx.merge(self.graph, params)(xs)[1]

    def _make(self, rngs: nnx.Rngs) -> CausalTransformer:
        return CausalTransformer(
            self.input_size,
            self.output_size,
            self.width,
            layers=self.layers,
            heads=self.heads,
            feed_forward=2 * self.width,
            rngs=rngs,
        )
