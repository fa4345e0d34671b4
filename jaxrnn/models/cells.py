"""The cells that models are made of, by the names that command lines take."""

from collections.abc import Callable
from functools import partial

import jaxrnn
from jaxrnn.cell import Cell, Recurrence

CELLS: dict[str, Callable[[int, int], Cell]] = {
    "elman": jaxrnn.Elman,
    "gru": jaxrnn.GRU,
    "minimalgru": jaxrnn.MinimalGRU,
    "resetbeforegru": jaxrnn.ResetBeforeGRU,
    "indrnn": jaxrnn.IndRNN,
    "layernormgru": jaxrnn.LayerNormGRU,
    "layernormlstm": jaxrnn.LayerNormLSTM,
    "lru": jaxrnn.LRU,
    "lstm": jaxrnn.LSTM,
    "coupledlstm": jaxrnn.CoupledLSTM,
    "peepholelstm": jaxrnn.PeepholeLSTM,
    "lstm1997": jaxrnn.LSTM1997,
    "carousel": jaxrnn.Carousel,
    "mingru": jaxrnn.MinGRU,
    "minlstm": jaxrnn.MinLSTM,
    "mlstm": jaxrnn.MLSTM,
    "mogrifierlstm": jaxrnn.MogrifierLSTM,
    "deltanet": jaxrnn.DeltaNet,
    "gateddeltanet": jaxrnn.GatedDeltaNet,
    "rglru": jaxrnn.RGLRU,
    "gemmarglru": jaxrnn.GemmaRGLRU,
    "slstm": jaxrnn.SLSTM,
}


def make_cell(name: str, input_size: int, hidden_size: int) -> Cell:
    """The cell that `name` is in small letters; raises ValueError if it is none."""
    if name.lower() not in CELLS:
        raise ValueError(f"unknown cell {name!r}; known: {', '.join(CELLS)}")
    return CELLS[name.lower()](input_size, hidden_size)


def make_layers(
    cell: str | Callable[[int, int], Cell],
    layers: int,
    input_size: int,
    hidden_size: int,
    around: Callable[[Cell], Recurrence] = lambda cell: cell,
    precision: str = "float32",
    last_size: int | None = None,
) -> list[Recurrence]:
    """`layers` cells of one kind, each on top of the one before.

    cell: a name that `make_cell` knows, or what makes one of an input and a hidden size.
    around: what each cell is wrapped in, such as `lambda cell: Bidirectional(cell, cell)`.
    last_size: the hidden size of the last one; `hidden_size` unless given.
    precision: what the cells multiply in: another than "float32" is `jaxrnn.Precision`.
    """
    make = partial(make_cell, cell) if isinstance(cell, str) else cell
    made: list[Recurrence] = []
    sizes = [hidden_size] * layers
    if layers and last_size is not None:
        sizes[-1] = last_size
    for hidden in sizes:
        layer = make(made[-1].output_size if made else input_size, hidden)
        if precision != "float32":
            layer = jaxrnn.Precision(layer, precision)
        made.append(around(layer))
    return made
