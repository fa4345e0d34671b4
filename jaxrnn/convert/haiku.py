"""Haiku: `VanillaRNN`, `LSTM` and `GRU`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, ResetBeforeGRU, ResetBeforeGRUParams
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.convert.layout import as_array, check_fit, counterpart, matrix_shape, reorder

Tree = dict[str, dict[str, Array]]

# Both are their own inverses.
LSTM_ORDER = (0, 2, 1, 3)  # i, g, f, o
GRU_ORDER = (1, 0, 2)  # z, r, a


def from_haiku(params: Mapping[str, Any], name: str | None = None) -> tuple[Cell, Any]:
    """A cell and its params from the params of a Haiku core.

        cell, params = from_haiku(transformed.init(key, xs), "net/~/lstm")

    `name` is the core's module name; without it `params` must hold one core alone. Haiku
    adds 1 to the LSTM's forget gate at run time, which we keep in b; its GRU resets
    before the product (a `ResetBeforeGRU`) and its z is our 1 - z, hence negated; its
    VanillaRNN has ReLU. Params know of no policy of `jmp`: the computation has their dtype.
    Raises ValueError where there is no such core or its arrays do not fit.
    """
    if not all(isinstance(leaves, Mapping) for leaves in params.values()):
        raise ValueError(f"Haiku's params are dicts of dicts, got {sorted(params)}")
    modules = {
        path: {leaf: as_array(x, f"{path}/{leaf}") for leaf, x in leaves.items()}
        for path, leaves in sorted(params.items())
        if name is None or path == name or path.startswith(name + "/")
    }
    paths = [path.rpartition("/") for path in modules]
    leaves = [dict(sorted(leaves.items())) for leaves in modules.values()]
    core = paths[0][0] if paths else ""
    match [last for _, _, last in paths], leaves:
        case [_], [{"b": b, "w_h": w_h, "w_i": w_x, **rest}] if not rest:
            return _read_gru(next(iter(modules)), w_x, w_h, b)
        case ["linear"], [{"b": b, "w": w, **rest}] if core and not rest:
            return _read_lstm(core, w, b)
        case ["linear", "linear_1"], [{"b": _, "w": _, **rest}, {"w": _, **second}] if (
            core == paths[1][0] != "" and not rest and set(second) <= {"b"}
        ):
            return _read_elman(core, *leaves)
    raise ValueError(
        f"one VanillaRNN, LSTM or GRU is wanted under the name {name!r}, got the modules "
        f"{ {path: sorted(leaves) for path, leaves in sorted(params.items())} }"
    )


def to_haiku(recurrence: Recurrence, params: Any, name: str | None = None) -> Tree:
    """The params of the Haiku core that computes the same.

        core = hk.transform(lambda x, state: hk.LSTM(256)(x, state))
        y, state = core.apply(to_haiku(cell, params), None, x, state)

    An `LSTM` becomes the module "lstm", a `ResetBeforeGRU` "gru", an `Elman` with ReLU
    "vanilla_rnn" (its second bias zero), or whatever `name` says. `from_haiku` gives back
    exactly `params`, except that an LSTM's forget bias outside 1/2 to 2 is rounded to
    the precision of numbers near 1, since Haiku adds that 1. Raises ValueError for what
    Haiku has no core for.
    """
    default, write = counterpart("Haiku", recurrence, WRITERS, REASONS)
    return write(recurrence, params, default if name is None else name)


def _forget(size: int, dtype: Any) -> Array:
    """What Haiku adds to the gates i, f, g, o at run time."""
    return jnp.zeros(4 * size, dtype).at[size : 2 * size].set(1)


def _read_lstm(core: str, w: Array, b: Array) -> tuple[LSTM, LSTMParams]:
    rows, width = matrix_shape(f"{core}/linear/w", w)
    size, rest = divmod(width, 4)
    if rest or rows <= size:
        raise ValueError(
            f"{core}/linear/w is [D + H, 4H] in an LSTM, got {list(w.shape)}: it is none"
        )
    arrays = {f"{core}/linear/w": w, f"{core}/linear/b": b}
    check_fit(arrays, {f"{core}/linear/b": (width,)})
    w, b = reorder(w, LSTM_ORDER), reorder(b, LSTM_ORDER) + _forget(size, b.dtype)
    return LSTM(rows - size, size), LSTMParams(w_x=w[:-size], w_h=w[-size:], b=b)


def _read_gru(
    core: str, w_x: Array, w_h: Array, b: Array
) -> tuple[ResetBeforeGRU, ResetBeforeGRUParams]:
    arrays = {f"{core}/w_i": w_x, f"{core}/w_h": w_h, f"{core}/b": b}
    input_size, _ = matrix_shape(f"{core}/w_i", w_x)
    size, _ = matrix_shape(f"{core}/w_h", w_h)
    shapes = (input_size, 3 * size), (size, 3 * size), (3 * size,)
    check_fit(arrays, dict(zip(arrays, shapes, strict=True)))
    w_x, w_h, b = (_negate_z(reorder(x, GRU_ORDER)) for x in (w_x, w_h, b))
    return ResetBeforeGRU(input_size, size), ResetBeforeGRUParams(w_x=w_x, w_h=w_h, b=b)


def _read_elman(
    core: str, inner: Mapping[str, Array], hidden: Mapping[str, Array]
) -> tuple[Elman, ElmanParams]:
    input_size, size = matrix_shape(f"{core}/linear/w", inner["w"])
    arrays = {f"{core}/linear/{leaf}": x for leaf, x in inner.items()}
    arrays |= {f"{core}/linear_1/{leaf}": x for leaf, x in hidden.items()}
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name in arrays}
    shapes[f"{core}/linear/w"] = input_size, size
    shapes[f"{core}/linear_1/w"] = size, size
    check_fit(arrays, shapes)
    b = inner["b"] + hidden.get("b", jnp.zeros_like(inner["b"]))
    cell = Elman(input_size, size, "relu")
    return cell, ElmanParams(w_x=inner["w"], w_h=hidden["w"], b=b)


def _negate_z(x: Array) -> Array:
    r, z, n = jnp.split(x, 3, axis=-1)
    return jnp.concatenate([r, -z, n], axis=-1)


def _write_lstm(cell: LSTM, params: LSTMParams, name: str) -> Tree:
    w = jnp.concatenate([params.w_x, params.w_h])
    b = params.b - _forget(cell.hidden_size, params.b.dtype)
    linear = {"w": reorder(w, LSTM_ORDER), "b": reorder(b, LSTM_ORDER)}
    return {f"{name}/linear": linear}


def _write_gru(cell: ResetBeforeGRU, params: ResetBeforeGRUParams, name: str) -> Tree:
    w_i, w_h, b = (reorder(_negate_z(x), GRU_ORDER) for x in params)
    return {name: {"w_i": w_i, "w_h": w_h, "b": b}}


def _write_elman(cell: Elman, params: ElmanParams, name: str) -> Tree:
    if cell.activation != "relu":
        raise ValueError(f"Haiku cannot hold {cell}: its VanillaRNN has ReLU only")
    return {
        f"{name}/linear": {"w": params.w_x, "b": params.b},
        f"{name}/linear_1": {"w": params.w_h, "b": jnp.zeros_like(params.b)},
    }


WRITERS = {
    LSTM: ("lstm", _write_lstm),
    ResetBeforeGRU: ("gru", _write_gru),
    Elman: ("vanilla_rnn", _write_elman),
}
REASONS = {GRU: "its GRU resets before the product, another function"}
