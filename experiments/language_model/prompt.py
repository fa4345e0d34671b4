"""A prompt: what a model sees of it, and the text that goes on from it."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.data.subwords import AnyTokenizer
from jaxrnn.models import LanguageModel, Sampling, sample
from jaxrnn.training.run.terminal import as_bytes


def read_prompt(tokenizer: AnyTokenizer, prompt: str) -> np.ndarray:
    """The tokens `[N]` of a prompt; raises ValueError if there is none."""
    tokens = tokenizer.encode(as_bytes(prompt))
    if not len(tokens):
        raise ValueError(f"a text needs at least one {tokenizer.kind}, got {prompt!r}")
    return tokens


def say_unseen(tokenizer: AnyTokenizer, prompt: str) -> None:
    """Tells beside the output what of a prompt the model does not know."""
    if unseen := tokenizer.about_unseen(as_bytes(prompt)):
        print(f"of the prompt, {unseen}", file=sys.stderr)


def go_on(tokenizer: AnyTokenizer, prompt: str, written: np.ndarray) -> str:
    """The prompt as it was given, and what a model wrote after it."""
    text = tokenizer.decode(written)
    if tokenizer.kind == "word" and not (prompt[-1].isspace() or text.startswith("\n")):
        return f"{prompt} {text}"
    return prompt + text


def write(
    model: LanguageModel,
    tokenizer: AnyTokenizer,
    prompt: str,
    length: int,
    sampling: Sampling,
    *,
    samples: int = 1,
    seed: int = 0,
) -> list[str]:
    """`samples` texts that begin with `prompt` as it is; raises ValueError if that has no
    token."""
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, got {samples}")
    tokens = read_prompt(tokenizer, prompt)
    columns = jnp.asarray(np.tile(tokens[:, None], (1, samples)), jnp.int32)
    written = np.asarray(sample(model, columns, length, jax.random.key(seed), sampling))
    return [go_on(tokenizer, prompt, column) for column in written.T]
