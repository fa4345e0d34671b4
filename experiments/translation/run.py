"""A translator's run folder, opened again: by `evaluate` and `translate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Opened, Step
from jaxrnn.training.run.reopen import best_params, check_data, read_options

from .config import Config
from .pairs import Pairs, read_pairs
from .problem import Languages, Model, data_digest, make_model
from .translation import Look, look, translate


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A trained translator and all that is needed to ask it."""

    model: Model
    tokenizer: Languages
    config: Config

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        return cls(*load(path, step))

    def __call__(self, *sentences: str, beam: int = 5) -> list[str]:
        """The translation of each sentence.

        beam: beginnings followed side by side; 1 takes the likeliest token at every step.

        Raises ValueError for no sentence, and for one without a word.
        """
        if not sentences:
            raise ValueError("which sentence? none was given")
        for sentence in sentences:
            if not sentence.strip():
                raise ValueError(f"a sentence needs at least one word, got {sentence!r}")
        tokens = self._write(sentences, beam)
        return [self.tokenizer.target.decode(written) for written in tokens]

    def look(self, sentence: str, *, beam: int = 5) -> Look:
        """Where the model looks as it writes the translation of a sentence."""
        (written,) = self._write([sentence], beam)
        return look(self.model, self.tokenizer, sentence, written)

    def _write(self, sentences: Sequence[str], beam: int) -> list[np.ndarray]:
        length = self.config.longest
        return translate(self.model, self.tokenizer, sentences, beam=beam, length=length)


def load(path: Path, step: Step = "best") -> tuple[Model, Languages, Config]:
    """The model of a run, the best one unless told; raises ValueError if there is none."""
    config = read_options(path, Config)
    languages = Languages.load(RunDirectory(path).tokenizer)
    model = make_model(config, languages)
    params = best_params(path, config, model.like, step)
    return model(params), languages, config


def read_test(path: Path, config: Config) -> Pairs:
    """The run's test pairs; raises ValueError if the data are not those of the run."""
    pairs = read_pairs(config.corpus, config.data, config.backwards)
    check_data(path, data_digest(pairs))
    return pairs["test"]
