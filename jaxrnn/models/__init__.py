"""Flax NNX models made of recurrences."""

from jaxrnn.models.classifier import Classifier as Classifier
from jaxrnn.models.language_model import LanguageModel as LanguageModel
from jaxrnn.models.pooling import (
    AttentionPooling as AttentionPooling,
    LastPooling as LastPooling,
    MaxPooling as MaxPooling,
)
from jaxrnn.models.sampling import Sampling as Sampling, sample as sample
