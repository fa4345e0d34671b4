"""Recurrent networks for JAX: pure functional cells, run over time with `lax.scan`."""

from jaxrnn.cell import (
    Cell as Cell,
    Composition as Composition,
    Recurrence as Recurrence,
)
from jaxrnn.compose import (
    Bidirectional as Bidirectional,
    Residual as Residual,
    Stack as Stack,
)
from jaxrnn.elman import Elman as Elman
from jaxrnn.gru import GRU as GRU, ResetBeforeGRU as ResetBeforeGRU
from jaxrnn.lstm import LSTM as LSTM, LSTMCarry as LSTMCarry, LSTMParams as LSTMParams
from jaxrnn.unroll import (
    explain as explain,
    length_mask as length_mask,
    unroll as unroll,
)
