"""A translator's run folder, opened again: by `evaluate` and `translate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxrnn.models.attention import Attending
from jaxrnn.models.translator import Translator
from jaxrnn.report.charts import squares
from jaxrnn.report.markup import table
from jaxrnn.report.units import TOKENS, Reading, explorer, read_layers
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Opened, Section, Step
from jaxrnn.training.run.reopen import best_params, check_data, read_options

from .config import Config
from .pairs import Pairs, read_pairs
from .problem import Languages, Model, data_digest, make_model
from .translation import Look, look, readable, translate

SHOWN = 3  # validation sentences of a report


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

    def sections(self, texts: Sequence[str]) -> list[Section]:
        """Of the sentences, or of the first ones of the run's validation data."""
        if texts:
            return explored(self, texts, self(*texts))
        pairs = read_pairs(self.config.corpus, self.config.data, self.config.backwards)
        sentences = pairs["valid"].source[:SHOWN]
        return explored(self, sentences, self(*sentences), pairs["valid"].target[:SHOWN])

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


def explored(
    trained: Trained,
    sentences: Sequence[str],
    translations: Sequence[str],
    references: Sequence[str] = (),
) -> list[Section]:
    """What a report shows of a translator: what it writes, where it looks, its encoder."""
    columns = [sentences, translations, *([references] if references else [])]
    head = ["sentence", "translation", "as a person has it"][: len(columns)]
    told = table("Translations", head, zip(*columns, strict=True))
    shown = [Section("what it writes", told)]
    if not isinstance(trained.model, Translator):
        return shown
    if isinstance(trained.model.decoder.recurrence, Attending):
        looks = map(trained.look, sentences)
        squared = (
            squares(
                readable(look.target),
                readable(look.source),
                look.weights,
                f"Where it looks as it translates: {sentence}",
            )
            for look, sentence in zip(looks, sentences, strict=True)
        )
        shown.append(Section("where it looks", "".join(squared)))
    readings = [read(trained, sentence) for sentence in sentences]
    return [*shown, *explorer(readings)]


def read(trained: Trained, sentence: str) -> Reading:
    """A sentence as the encoder has read it."""
    model, source = trained.model, trained.tokenizer.source
    assert isinstance(model, Translator)
    spelled = [f"{symbol} " for symbol in readable([*source.tokenise(sentence), "</s>"])]
    xs = model.source_embedding(jnp.asarray(source.encode(sentence)))
    return Reading(spelled[:TOKENS], read_layers([model.encoder], xs[:TOKENS]))
