"""A classifier's run folder, opened again: by `predict` and `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxrnn.data.buckets import Rows, edges_for, pad
from jaxrnn.data.files import read_json
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import Classifier
from jaxrnn.report.charts import over_tokens
from jaxrnn.report.markup import table
from jaxrnn.report.units import TOKENS, Reading, explorer, read_layers
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Opened, Section, Step
from jaxrnn.training.run.reopen import best_params, read_options

from .config import Config
from .data import read_corpus
from .problem import encode, make_model
from .words import normal_form

SHOWN = 4  # validation texts of a report
LAGS = 60


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A trained classifier and all that is needed to ask it."""

    model: Classifier
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    config: Config

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        config = read_options(path, Config)
        run = RunDirectory(path)
        tokenizer = Tokenizer.load(run.tokenizer)
        labels = read_json(run.path / "labels.json")
        model = make_model(config, tokenizer, len(labels))
        params = best_params(path, config, model.like, step)
        return cls(model(params), tokenizer, tuple(labels), config)

    def __call__(self, *texts: str) -> list[str]:
        """The likeliest class of each text.

        Raises ValueError for no text, and for one without a word.
        """
        return [self.labels[shares.argmax()] for shares in self.probabilities(texts)]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """`[N, classes]` of raw texts; raises ValueError for none or one without a word."""
        if not texts:
            raise ValueError("which text? none was given")
        tokens = []
        for text in texts:
            tokens.append(encode(self.tokenizer, normal_form(text), self.config.longest))
            if not len(tokens[-1]):
                raise ValueError(f"a text needs at least one word, got {text!r}")
        longest = self.padded(max(map(len, tokens)))
        xs, mask = pad(tokens, Rows(np.arange(len(tokens)), longest))
        logits = _logits(self.model, jnp.asarray(xs), jnp.asarray(mask))
        return np.asarray(jax.nn.softmax(logits))

    def padded(self, length: int) -> int:
        """One of few lengths, so that not every text compiles a program of its own."""
        edges = edges_for(np.array([self.config.longest]), growth=1.6)
        return next(edge for edge in edges if edge >= length)

    def word_by_word(self, text: str) -> tuple[list[str], np.ndarray]:
        """The words of a text, and the probabilities `[words, classes]` when it ends there.

        A bidirectional model reads every prefix anew, all of them as one batch.
        """
        words = normal_form(text).split()
        prefixes = [" ".join(words[: n + 1]) for n in range(len(words))]
        return words, self.probabilities(prefixes or [text])

    def sections(self, texts: Sequence[str]) -> list[Section]:
        """Of the texts, or of the first ones of the run's validation data."""
        if not texts:
            valid = read_corpus(self.config).splits["valid"]
            texts = [example.text for example in valid[:SHOWN]]
        return explored(self, texts)

    def read(self, text: str) -> tuple[list[str], np.ndarray]:
        """The tokens of a raw text as they are written, and as numbers."""
        text = normal_form(text)
        tokens = encode(self.tokenizer, text, self.config.longest)
        # The words themselves, since those that are not known have no spelling.
        if self.tokenizer.kind == "word":
            return [f"{word} " for word in text.split()[: len(tokens)]], tokens
        return self.tokenizer.spell(tokens), tokens

    def telling_unit(self, text: str) -> tuple[list[str], np.ndarray]:
        """The tokens of a raw text, and at each the output `[T]` of the unit that speaks
        the loudest for the answer: the one that adds most to its logit."""
        spelled, tokens = self.read(text)
        model, mask = self.model, jnp.ones((len(tokens), 1), bool)
        ys = model.outputs(jnp.asarray(tokens[:, None]), mask)
        pooled = model.pooling(ys, mask)[0]
        weights = model.output.kernel[...] - jnp.mean(model.output.kernel[...], 1)[:, None]
        answer = jnp.argmax(model.output(pooled))
        loudest = jnp.argmax(pooled * weights[:, answer])
        return spelled, np.asarray(ys[:, 0, loudest])


@nnx.jit
def _logits(model: Classifier, tokens: Array, mask: Array) -> Array:
    return model(tokens, mask=mask)


def explored(trained: Trained, texts: Sequence[str]) -> list[Section]:
    """What a report shows of a classifier: its answers, its units, its memory."""
    shares = trained.probabilities(texts)
    answers = [
        (text, trained.labels[row.argmax()], *(f"{share:.3f}" for share in row))
        for text, row in zip(texts, shares, strict=True)
    ]
    told = table("Answers", ["text", "answer", *trained.labels], answers)
    for text in texts:
        words, by_word = trained.word_by_word(text)
        named = dict(zip(trained.labels, by_word.T, strict=True))
        caption = f"What it would answer if the text ended there: {text}"
        told += over_tokens(words, named, "probability", caption)
    readings = []
    for lags, text in zip([LAGS] + [0] * len(texts), texts, strict=False):
        spelled, tokens = trained.read(text)
        xs = trained.model.embedding(jnp.asarray(tokens[:TOKENS]))
        cells = read_layers(trained.model.layers, xs, lags)
        readings.append(Reading(spelled[:TOKENS], cells))
    by_lag = {name: cell.by_lag for name, cell in readings[0].cells.items()}
    about = (
        "How far back each layer looks: how much its last output on the first text depends "
        "on its state so many tokens before."
    )
    return [Section("what it answers", told), *explorer(readings, by_lag, about)]
