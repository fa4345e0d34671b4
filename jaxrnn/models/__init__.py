"""Flax NNX models made of recurrences."""

from jaxrnn.models.language_model import LanguageModel as LanguageModel
from jaxrnn.models.sampling import Sampling as Sampling, sample as sample
from jaxrnn.models.sequence_model import SequenceModel as SequenceModel
