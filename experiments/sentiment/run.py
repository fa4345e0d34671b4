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
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Opened, Step
from jaxrnn.training.run.reopen import best_params, read_options

from .config import Config
from .problem import encode, make_model
from .words import normal_form


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A trained classifier and all that is needed to ask it."""

    model: Classifier
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    longest: int

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        config = read_options(path, Config)
        run = RunDirectory(path)
        tokenizer = Tokenizer.load(run.tokenizer)
        labels = read_json(run.path / "labels.json")
        model = make_model(config, tokenizer, len(labels))
        params = best_params(path, config, model.like, step)
        return cls(model(params), tokenizer, tuple(labels), config.longest)

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
            tokens.append(encode(self.tokenizer, normal_form(text), self.longest))
            if not len(tokens[-1]):
                raise ValueError(f"a text needs at least one word, got {text!r}")
        longest = self.padded(max(map(len, tokens)))
        xs, mask = pad(tokens, Rows(np.arange(len(tokens)), longest))
        logits = _logits(self.model, jnp.asarray(xs), jnp.asarray(mask))
        return np.asarray(jax.nn.softmax(logits))

    def padded(self, length: int) -> int:
        """One of few lengths, so that not every text compiles a program of its own."""
        edges = edges_for(np.array([self.longest]), growth=1.6)
        return next(edge for edge in edges if edge >= length)

    def telling_unit(self, text: str) -> tuple[list[str], np.ndarray]:
        """The tokens of a raw text, and at each the output `[T]` of the unit that speaks
        the loudest for the answer: the one that adds most to its logit."""
        text = normal_form(text)
        tokens = encode(self.tokenizer, text, self.longest)
        # The words themselves, since those that are not known have no spelling.
        spelled = self.tokenizer.spell(tokens)
        if self.tokenizer.kind == "word":
            spelled = [f"{word} " for word in text.split()[: len(tokens)]]
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
