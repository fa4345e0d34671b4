"""LSTM with a projection between the cell and what the network sees."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import exportable
from jaxrnn.cells.activations import clip
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell
from jaxrnn.constants import check_size


@exportable
class ProjectedLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [P, 4H]
    w_p: Array  # [H, P]
    b: Array  # [4H]


@dataclass(frozen=True, repr=False)
class ProjectedLSTM(LSTMCell[ProjectedLSTMParams]):
    """LSTM with a recurrent projection layer (Sak et al. 2014; PyTorch's `proj_size`).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = (sigmoid(o) tanh(c')) W_p                                         y = h'

    x `[..., D]`, c `[..., H]`, h and y `[..., P]`, all in the dtype of the parameters;
    P is `projection_size`. Without the peepholes of Sak et al.: `ProjectedPeepholeLSTM`.
    `forget_bias` is what `init` writes into the forget gate's part of b. The projection is
    part of `gate`, which is float32 inside `unroll` where the parameters are narrower.
    Activations and bounds are those of `LSTM`; h' is held to [-projection_clip,
    projection_clip]. Raises ValueError for a size below 1, an unknown activation or a bound
    of 0 or less.
    """

    input_size: int
    hidden_size: int
    projection_size: int
    forget_bias: float = 1.0
    _: KW_ONLY
    output_activation: str = "tanh"
    cell_clip: float | None = None
    projection_clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "projection_size")

    @property
    def output_size(self) -> int:
        return self.projection_size

    @property
    def shares_units(self) -> bool:
        return False  # h is a product of all of them

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> ProjectedLSTMParams:
        key_x, key_h, key_p = jax.random.split(key, 3)
        size, projection = self.hidden_size, self.projection_size
        return ProjectedLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, projection, 4, dtype, columns=size),
            w_p=lecun_normal(key_p, size, projection, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def gate(
        self, params: ProjectedLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = self.activate(u + r, "gate", "gate", "candidate", "gate")
        c = clip(f * carry.c + i * g, self.cell_clip)
        (shown,) = self.activate(c, "output")
        h = clip((o * shown) @ params.w_p, self.projection_clip)
        return LSTMCarry(h, c), h

    def gates(
        self, params: ProjectedLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, f, _, o = self.activate(u + r, "gate", "gate", "candidate", "gate")
        return {"input": i, "forget": f, "output": o}
