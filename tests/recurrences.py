"""Every recurrence of the package. A new one adds a line and goes through all the laws."""

import pytest

from jaxrnn import (
    GRU,
    LRU,
    LSTM,
    LSTM1997,
    MLSTM,
    RGLRU,
    SLSTM,
    Bidirectional,
    Carousel,
    ConvLSTM,
    CoupledLSTM,
    CoupledPeepholeLSTM,
    DeltaNet,
    Elman,
    FeedForward,
    GatedDeltaNet,
    GemmaRGLRU,
    Highway,
    IndRNN,
    LayerNormGRU,
    LayerNormLSTM,
    LearnedStart,
    MinGRU,
    MinimalGRU,
    MinLSTM,
    MogrifierLSTM,
    OutputDropout,
    PeepholeLSTM,
    Precision,
    PreNorm,
    ProjectedLSTM,
    ProjectedPeepholeLSTM,
    ResetBeforeGRU,
    Residual,
    Reversed,
    Skip,
    Slower,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
)

CELLS = [
    Elman(3, 4),
    LSTM(3, 4),
    GRU(3, 4),
    ResetBeforeGRU(3, 4),
    PeepholeLSTM(3, 4),
    CoupledLSTM(3, 4),
    LayerNormLSTM(3, 4),
    ProjectedLSTM(3, 4, projection_size=2),
    LSTM1997(3, 4, block_size=2),
    Carousel(3, 4),
    SLSTM(3, 4, heads=2),
    ConvLSTM(2, 3, (3, 2), kernel_shape=(3, 2)),
    MogrifierLSTM(3, 4, rounds=3, rank=2),
    MinimalGRU(3, 4),
    IndRNN(3, 4),
    MinGRU(3, 4),
    MinLSTM(3, 4),
    RGLRU(4, 4, heads=2),
    LRU(3, 4, state_size=5, r_min=0.5),
    MLSTM(3, 4, heads=2),
    DeltaNet(3, 4, heads=2, householders=2, beta_max=2.0),
]

# Cells that differ from one above in an option, a part or what is around them.
VARIANTS = [
    Elman(3, 4, activation="relu"),
    LSTM(
        3, 4, gate_activation="hard_sigmoid[1/6]", output_activation="relu", cell_clip=0.5
    ),
    CoupledPeepholeLSTM(3, 4, gate_activation="hard_sigmoid", activation_clip=1.0),
    ProjectedPeepholeLSTM(3, 4, projection_size=2, projection_clip=0.3),
    GemmaRGLRU(4, 4, heads=2),
    GatedDeltaNet(3, 4, heads=2),
    LayerNormGRU(3, 4),
    Zoneout(LSTM(3, 4), (0.2, 0.4)),
    VariationalDropout(GRU(3, 4), 0.3),
    LearnedStart(LSTM(3, 4)),
    Slower(GRU(3, 4), every=2),
    Precision(LSTM(3, 4)),
]

COMPOSITIONS = [
    Stack((LSTM(3, 4), GRU(4, 2))),
    Bidirectional(LSTM(3, 4), GRU(3, 2)),
    Bidirectional(Elman(3, 4), ResetBeforeGRU(3, 4), merge="product"),
    Reversed(GRU(3, 4)),
    Residual(GRU(3, 3)),
    FeedForward(PreNorm(OutputDropout(GRU(3, 3), 0.3)), 5),
    Stack((Skip(WeightDrop(Elman(3, 2), 0.5)), Highway(Elman(5, 5)))),
    Stack((Bidirectional(GRU(3, 2), LSTM(3, 2)), Residual(Stack((Elman(4, 4),))))),
]

RECURRENCES = CELLS + VARIANTS + COMPOSITIONS


def when_slow(recurrence):
    """The parameter of a test that it is tried with where slow tests run."""
    return pytest.param(recurrence, id=repr(recurrence), marks=pytest.mark.slow)


# For tests that compile much: one of each kind at every change, the rest among slow tests.
KINDS = [*CELLS, *COMPOSITIONS[:2]]
EVERY = [
    pytest.param(recurrence, id=repr(recurrence))
    if recurrence in KINDS
    else when_slow(recurrence)
    for recurrence in RECURRENCES
]
