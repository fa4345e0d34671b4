"""A language model's run folder, opened again: by `train`, `evaluate` and `sample`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn.data.subwords import AnyTokenizer, load_tokenizer
from jaxrnn.models import LanguageModel, Sampling
from jaxrnn.report.units import TOKENS
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Opened, Section, Step
from jaxrnn.training.run.reopen import best_params, check_data, read_options

from .config import Config
from .explore import explored
from .model import Model, make_model
from .prompt import read_prompt, write
from .text import Text, read_tokens


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A trained language model and all that is needed to ask it."""

    model: Model
    tokenizer: AnyTokenizer
    config: Config

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        return cls(*load(path, step))

    def __call__(
        self,
        prompt: str = "\n",
        length: int = 500,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> str:
        """The prompt, and `length` tokens that the model goes on with.

        The other options are those of `jaxrnn.models.Sampling`. Raises ValueError for a
        prompt without a token.
        """
        sampling = Sampling(temperature, top_k, top_p)
        model = as_recurrent(self.model, self.config)
        (text,) = write(model, self.tokenizer, prompt, length, sampling, seed=seed)
        return text

    def sections(self, texts: Sequence[str]) -> list[Section]:
        """Of the texts, or of the beginning of the run's validation text."""
        if texts:
            tokens = [read_prompt(self.tokenizer, text) for text in texts]
            return explored(self.model, self.tokenizer, tokens, max(tokens, key=len))
        text = read_text(self.config.run_dir, self.config, self.tokenizer)
        valid = text.tokens["valid"]
        first = valid[np.arange(min(TOKENS, len(valid)))]
        return explored(self.model, self.tokenizer, [first], valid)

    def nats(self, text: str) -> np.ndarray:
        """`[T - 1]` of each token of a text but the first, given those before it.

        Raises ValueError for a text without a token.
        """
        tokens = jnp.asarray(read_prompt(self.tokenizer, text), jnp.int32)
        _, logits = self.model(tokens[:-1])
        return np.asarray(
            optax.softmax_cross_entropy_with_integer_labels(logits, tokens[1:])
        )


def load(path: Path, step: Step = "best") -> tuple[Model, AnyTokenizer, Config]:
    """The model of a run, the best one unless told; raises ValueError if there is none."""
    config = read_options(path, Config)
    tokenizer = load_tokenizer(RunDirectory(path).tokenizer)
    model = make_model(config, tokenizer.size)
    params = best_params(path, config, model.like, step)
    return model(params), tokenizer, config


def load_recurrent(path: Path) -> tuple[LanguageModel, AnyTokenizer, Config]:
    """`load` where a carry is looked into; raises ValueError for a transformer, which has
    none."""
    model, tokenizer, config = load(path)
    return as_recurrent(model, config), tokenizer, config


def as_recurrent(model: Model, config: Config) -> LanguageModel:
    if not isinstance(model, LanguageModel):
        raise ValueError(
            f"{config.run_dir} holds a {config.cell}, and this takes a recurrent model"
        )
    return model


def read_text(path: Path, config: Config, tokenizer: AnyTokenizer) -> Text:
    """The text of a run; raises ValueError if it is not what the run was trained on."""
    text = read_tokens(config, tokenizer)
    check_data(path, text.sha256)
    return text
