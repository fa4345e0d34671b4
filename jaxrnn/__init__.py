"""Recurrent networks for JAX: pure functional cells, run over time with `lax.scan`."""

from jaxrnn.cell import (
    Cell as Cell,
    Composition as Composition,
    Recurrence as Recurrence,
)
from jaxrnn.compose import (
    Bidirectional as Bidirectional,
    Stack as Stack,
)
from jaxrnn.connections import (
    Highway as Highway,
    Residual as Residual,
    Skip as Skip,
)
from jaxrnn.elman import Elman as Elman
from jaxrnn.gru import (
    GRU as GRU,
    MinimalGRU as MinimalGRU,
    ResetBeforeGRU as ResetBeforeGRU,
)
from jaxrnn.indrnn import IndRNN as IndRNN
from jaxrnn.layernorm import LayerNormGRU as LayerNormGRU, LayerNormLSTM as LayerNormLSTM
from jaxrnn.linear import LinearCell as LinearCell
from jaxrnn.lru import LRU as LRU
from jaxrnn.lstm import (
    LSTM as LSTM,
    CoupledLSTM as CoupledLSTM,
    LSTMCarry as LSTMCarry,
    LSTMParams as LSTMParams,
    PeepholeLSTM as PeepholeLSTM,
)
from jaxrnn.lstm1997 import LSTM1997 as LSTM1997, Carousel as Carousel
from jaxrnn.minrnn import MinGRU as MinGRU, MinLSTM as MinLSTM
from jaxrnn.mlstm import MLSTM as MLSTM
from jaxrnn.noise import (
    VariationalDropout as VariationalDropout,
    WeightDrop as WeightDrop,
    Zoneout as Zoneout,
)
from jaxrnn.precision import Precision as Precision
from jaxrnn.projected import ProjectedLSTM as ProjectedLSTM
from jaxrnn.rglru import RGLRU as RGLRU
from jaxrnn.slower import Slower as Slower
from jaxrnn.slstm import SLSTM as SLSTM
from jaxrnn.start import LearnedStart as LearnedStart
from jaxrnn.unroll import (
    explain as explain,
    length_mask as length_mask,
    unroll as unroll,
)
