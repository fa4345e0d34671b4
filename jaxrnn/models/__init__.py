"""Flax NNX models made of recurrences."""

from jaxrnn.models.attention import (
    Additive as Additive,
    AttendAfter as AttendAfter,
    AttendBefore as AttendBefore,
    Multiplicative as Multiplicative,
)
from jaxrnn.models.causal_transformer import (
    CausalTransformer as CausalTransformer,
    TransformerLanguageModel as TransformerLanguageModel,
)
from jaxrnn.models.classifier import Classifier as Classifier
from jaxrnn.models.language_model import LanguageModel as LanguageModel
from jaxrnn.models.neural_cache import (
    CacheMemory as CacheMemory,
    NeuralCache as NeuralCache,
)
from jaxrnn.models.pooling import (
    AttentionPooling as AttentionPooling,
    LastPooling as LastPooling,
    MaxPooling as MaxPooling,
)
from jaxrnn.models.pure import Pure as Pure
from jaxrnn.models.sampling import Sampling as Sampling, sample as sample
from jaxrnn.models.saved import load_language_model as load_language_model
from jaxrnn.models.search import beam_search as beam_search, greedy as greedy
from jaxrnn.models.sequence_model import SequenceModel as SequenceModel
from jaxrnn.models.transformer import Transformer as Transformer
from jaxrnn.models.translator import Translator as Translator
