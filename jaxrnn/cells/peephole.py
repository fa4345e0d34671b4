"""LSTMs whose gates look into the cell: plain, with coupled gates, with a projection."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across
from jaxrnn.cell import exportable
from jaxrnn.cells.activations import clip
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.cells.lstm import CoupledLSTM, LSTMCarry, LSTMCell
from jaxrnn.cells.projected import ProjectedLSTM
from jaxrnn.constants import check_size


@exportable
class PeepholeLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    w_c: Array  # [3H]  the peepholes: from each cell to its own i, f, o
    b: Array  # [4H]


@dataclass(frozen=True, repr=False)
class PeepholeLSTM(LSTMCell[PeepholeLSTMParams]):
    """LSTM whose gates look into the cell (Gers & Schmidhuber 2000).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f + w_cf c) c + sigmoid(i + w_ci c) tanh(g)
        h' = sigmoid(o + w_co c') tanh(c')                                     y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. The output
    gate sees the new cell. The peepholes w_ci, w_cf, w_co `[H]` lie side by side in w_c
    and start at zero. `forget_bias` is what `init` writes into the forget gate's part of
    b. Activations and bounds are those of `LSTM` (`output_activation="identity"` leaves out
    the tanh of c'). Raises ValueError for a size below 1, an unknown activation or a bound
    of 0 or less.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    output_activation: str = "tanh"
    _: KW_ONLY
    cell_clip: float | None = None

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> PeepholeLSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return PeepholeLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            w_c=jnp.zeros(3 * size, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def gate(
        self, params: PeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        seen = look(self, params.w_c, carry.c, u + r)
        return LSTMCarry(seen.h, seen.c), seen.h

    def gates(
        self, params: PeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        seen = look(self, params.w_c, carry.c, u + r)
        return {"input": seen.i, "forget": seen.f, "output": seen.o}


@exportable
class ProjectedPeepholeLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [P, 4H]
    w_p: Array  # [H, P]
    w_c: Array  # [3H]  the peepholes: from each cell to its own i, f, o
    b: Array  # [4H]


@dataclass(frozen=True, repr=False)
class ProjectedPeepholeLSTM(LSTMCell[ProjectedPeepholeLSTMParams]):
    """LSTM with peepholes and a recurrent projection layer (LSTMP: Sak et al. 2014).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f + w_cf c) c + sigmoid(i + w_ci c) tanh(g)
        h' = (sigmoid(o + w_co c') tanh(c')) W_p                               y = h'

    x `[..., D]`, c `[..., H]`, h and y `[..., P]`, all in the dtype of the parameters; P is
    `projection_size`. The peepholes are those of `PeepholeLSTM`, the projection and its
    bound those of `ProjectedLSTM`, activations and the other bounds those of `LSTM`.
    Raises ValueError for a size below 1, an unknown activation or a bound of 0 or less.
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

    def init(
        self, key: Array, dtype: DTypeLike = jnp.float32
    ) -> ProjectedPeepholeLSTMParams:
        sizes = self.input_size, self.hidden_size, self.projection_size
        params = ProjectedLSTM(*sizes, self.forget_bias).init(key, dtype)
        w_c = jnp.zeros(3 * self.hidden_size, dtype)
        return ProjectedPeepholeLSTMParams(**params._asdict(), w_c=w_c)

    def gate(
        self, params: ProjectedPeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        seen = look(self, params.w_c, carry.c, u + r)
        h = clip(seen.h @ params.w_p, self.projection_clip)
        return LSTMCarry(h, seen.c), h

    def gates(
        self, params: ProjectedPeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        seen = look(self, params.w_c, carry.c, u + r)
        return {"input": seen.i, "forget": seen.f, "output": seen.o}


class Seen(NamedTuple):
    """What gates make of the cell that they look into, leaves `[..., H]`."""

    i: Array
    f: Array
    o: Array
    c: Array  # the new cell
    h: Array  # what the output gate lets out of it


def look(
    cell: PeepholeLSTM | ProjectedPeepholeLSTM, w_c: Array, c: Array, z: Array
) -> Seen:
    """From the gates' sums z `[..., 4H]`, with peepholes w_c `[3H]` into c `[..., H]`."""
    size = cell.hidden_size
    z_if, z_g, z_o = jnp.split(z, [2 * size, 3 * size], axis=-1)
    w_if, w_o = jnp.split(across(w_c, z), [2 * size], axis=-1)
    both = jnp.concatenate([c, c], axis=-1)
    i, f = cell.activate(z_if + w_if * both, "gate", "gate")
    (g,) = cell.activate(z_g, "candidate")
    c = clip(f * c + i * g, cell.cell_clip)
    (o,) = cell.activate(z_o + w_o * c, "gate")
    (shown,) = cell.activate(c, "output")
    return Seen(i, f, o, c, o * shown)


@exportable
class CoupledPeepholeLSTMParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order i, g, o
    w_h: Array  # [H, 3H]
    w_c: Array  # [2H]  the peepholes: from each cell to its own i, o
    b: Array  # [3H]


@dataclass(frozen=True, repr=False)
class CoupledPeepholeLSTM(LSTMCell[CoupledPeepholeLSTMParams]):
    """LSTM with peepholes that forgets as much as it takes in (CIFG: Greff et al. 2017).

        i, g, o = x W_x + h W_h + b
        i = sigmoid(i + w_ci c)
        c' = (1 - i) c + i tanh(g)
        h' = sigmoid(o + w_co c') tanh(c')                                     y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. The peepholes
    w_ci, w_co `[H]` lie side by side in w_c and start at zero. `forget_bias` is that of
    `CoupledLSTM`, activations and bounds are those of `LSTM`. Raises ValueError for a size
    below 1, an unknown activation or a bound of 0 or less.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    _: KW_ONLY
    output_activation: str = "tanh"
    cell_clip: float | None = None

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> CoupledPeepholeLSTMParams:
        plain = CoupledLSTM(self.input_size, self.hidden_size, self.forget_bias)
        w_c = jnp.zeros(2 * self.hidden_size, dtype)
        return CoupledPeepholeLSTMParams(**plain.init(key, dtype)._asdict(), w_c=w_c)

    def gate(
        self, params: CoupledPeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        _, o, c = self._look(params, carry, u + r)
        (shown,) = self.activate(c, "output")
        h = o * shown
        return LSTMCarry(h, c), h

    def gates(
        self, params: CoupledPeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, o, _ = self._look(params, carry, u + r)
        return {"input": i, "forget": 1 - i, "output": o}

    def _look(
        self, params: CoupledPeepholeLSTMParams, carry: LSTMCarry, z: Array
    ) -> tuple[Array, Array, Array]:
        """The gates i and o, and the new cell between them."""
        z_i, z_g, z_o = jnp.split(z, 3, axis=-1)
        w_i, w_o = jnp.split(across(params.w_c, z), 2, axis=-1)
        (i,) = self.activate(z_i + w_i * carry.c, "gate")
        (g,) = self.activate(z_g, "candidate")
        c = clip((1 - i) * carry.c + i * g, self.cell_clip)
        (o,) = self.activate(z_o + w_o * c, "gate")
        return i, o, c
