"""Every recurrence of the package. A new one adds a line and goes through all the laws."""

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    ResetBeforeGRU,
    Residual,
    Stack,
)

CELLS = [
    Elman(3, 4),
    Elman(3, 4, activation="relu"),
    LSTM(3, 4),
    GRU(3, 4),
    ResetBeforeGRU(3, 4),
]

COMPOSITIONS = [
    Stack((LSTM(3, 4), GRU(4, 2))),
    Bidirectional(LSTM(3, 4), GRU(3, 2)),
    Bidirectional(Elman(3, 4), ResetBeforeGRU(3, 4), merge="product"),
    Residual(GRU(3, 3)),
    Stack((Bidirectional(GRU(3, 2), LSTM(3, 2)), Residual(Stack((Elman(4, 4),))))),
]

RECURRENCES = CELLS + COMPOSITIONS
