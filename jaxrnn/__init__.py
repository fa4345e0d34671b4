"""Recurrent networks for JAX: pure functional cells, run over time with `lax.scan`."""

from importlib import import_module as _import_module
from typing import Any as _Any

from jaxrnn.cell import (
    Cell as Cell,
    Composition as Composition,
    Recurrence as Recurrence,
    exportable as exportable,
)
from jaxrnn.cells.convlstm import (
    ConvLSTM as ConvLSTM,
    ConvLSTMParams as ConvLSTMParams,
)
from jaxrnn.cells.deltanet import (
    DeltaNet as DeltaNet,
    DeltaNetCarry as DeltaNetCarry,
    DeltaNetParams as DeltaNetParams,
    GatedDeltaNet as GatedDeltaNet,
    GatedDeltaNetParams as GatedDeltaNetParams,
)
from jaxrnn.cells.elman import (
    Elman as Elman,
    ElmanCarry as ElmanCarry,
    ElmanParams as ElmanParams,
)
from jaxrnn.cells.gru import (
    GRU as GRU,
    GRUCarry as GRUCarry,
    GRUParams as GRUParams,
    MinimalGRU as MinimalGRU,
    MinimalGRUParams as MinimalGRUParams,
    ResetBeforeGRU as ResetBeforeGRU,
    ResetBeforeGRUParams as ResetBeforeGRUParams,
)
from jaxrnn.cells.indrnn import (
    IndRNN as IndRNN,
    IndRNNCarry as IndRNNCarry,
    IndRNNParams as IndRNNParams,
)
from jaxrnn.cells.layernorm import (
    LayerNormGRU as LayerNormGRU,
    LayerNormGRUParams as LayerNormGRUParams,
    LayerNormLSTM as LayerNormLSTM,
    LayerNormLSTMParams as LayerNormLSTMParams,
)
from jaxrnn.cells.lru import (
    LRU as LRU,
    LRUCarry as LRUCarry,
    LRUParams as LRUParams,
)
from jaxrnn.cells.lstm import (
    LSTM as LSTM,
    CoupledLSTM as CoupledLSTM,
    CoupledLSTMParams as CoupledLSTMParams,
    LSTMCarry as LSTMCarry,
    LSTMParams as LSTMParams,
)
from jaxrnn.cells.lstm1997 import (
    LSTM1997 as LSTM1997,
    Carousel as Carousel,
    CarouselCarry as CarouselCarry,
    CarouselParams as CarouselParams,
    LSTM1997Carry as LSTM1997Carry,
    LSTM1997Params as LSTM1997Params,
)
from jaxrnn.cells.minrnn import (
    MinGRU as MinGRU,
    MinGRUParams as MinGRUParams,
    MinLSTM as MinLSTM,
    MinLSTMParams as MinLSTMParams,
)
from jaxrnn.cells.mlstm import (
    MLSTM as MLSTM,
    MLSTMCarry as MLSTMCarry,
    MLSTMParams as MLSTMParams,
)
from jaxrnn.cells.mogrifier import (
    MogrifierLSTM as MogrifierLSTM,
    MogrifierLSTMParams as MogrifierLSTMParams,
)
from jaxrnn.cells.peephole import (
    CoupledPeepholeLSTM as CoupledPeepholeLSTM,
    CoupledPeepholeLSTMParams as CoupledPeepholeLSTMParams,
    PeepholeLSTM as PeepholeLSTM,
    PeepholeLSTMParams as PeepholeLSTMParams,
    ProjectedPeepholeLSTM as ProjectedPeepholeLSTM,
    ProjectedPeepholeLSTMParams as ProjectedPeepholeLSTMParams,
)
from jaxrnn.cells.projected import (
    ProjectedLSTM as ProjectedLSTM,
    ProjectedLSTMParams as ProjectedLSTMParams,
)
from jaxrnn.cells.rglru import (
    RGLRU as RGLRU,
    GemmaRGLRU as GemmaRGLRU,
    GemmaRGLRUCarry as GemmaRGLRUCarry,
    RGLRUParams as RGLRUParams,
)
from jaxrnn.cells.slstm import (
    SLSTM as SLSTM,
    SLSTMCarry as SLSTMCarry,
    SLSTMParams as SLSTMParams,
)
from jaxrnn.compose import (
    Bidirectional as Bidirectional,
    Reversed as Reversed,
    Stack as Stack,
)
from jaxrnn.connections import (
    FeedForward as FeedForward,
    FeedForwardParams as FeedForwardParams,
    Highway as Highway,
    HighwayParams as HighwayParams,
    NormParams as NormParams,
    PreNorm as PreNorm,
    Residual as Residual,
    Skip as Skip,
)
from jaxrnn.linear import (
    Affine as Affine,
    LinearCarry as LinearCarry,
    LinearCell as LinearCell,
)
from jaxrnn.loading import load as load
from jaxrnn.unroll import (
    explain as explain,
    length_mask as length_mask,
    unroll as unroll,
)
from jaxrnn.wrappers.dropout import (
    VariationalDropout as VariationalDropout,
    VariationalDropoutParams as VariationalDropoutParams,
)
from jaxrnn.wrappers.output_dropout import (
    OutputDropout as OutputDropout,
    OutputDropoutParams as OutputDropoutParams,
)
from jaxrnn.wrappers.precision import Precision as Precision
from jaxrnn.wrappers.slower import (
    Slower as Slower,
    SlowerCarry as SlowerCarry,
    SlowerParams as SlowerParams,
)
from jaxrnn.wrappers.start import (
    LearnedStart as LearnedStart,
    LearnedStartParams as LearnedStartParams,
)
from jaxrnn.wrappers.weight_drop import WeightDrop as WeightDrop
from jaxrnn.wrappers.zoneout import (
    Zoneout as Zoneout,
    ZoneoutParams as ZoneoutParams,
)

__version__ = "0.1.0"

# Imported when first asked for: most need Flax, Optax or Orbax, which take long to import.
_PARTS = (
    "convert",
    "data",
    "diagnostics",
    "flax",
    "models",
    "online",
    "report",
    "strategies",
    "testing",
    "training",
)


def __getattr__(name: str) -> _Any:
    if name in _PARTS:
        return _import_module(f"jaxrnn.{name}")
    raise AttributeError(f"module 'jaxrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS})
