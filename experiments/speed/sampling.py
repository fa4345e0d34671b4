"""Times sampling one stream of characters, beside a PyTorch loop over `nn.LSTM`.

python -m experiments.speed.sampling --hidden-size 256
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

import jaxrnn
from jaxrnn.models import LanguageModel, Sampling, sample
from jaxrnn.training.run import terminal

from .rivals import compare, show


@dataclass(frozen=True)
class Options:
    """Times sampling one stream of characters, beside a PyTorch loop over nn.LSTM."""

    hidden_size: int = 256
    embedding_size: int = 64
    vocabulary_size: int = 66
    length: int = 4000
    rounds: int = 7


def ours(options: Options) -> Callable[[], object]:
    layer = jaxrnn.LSTM(options.embedding_size, options.hidden_size)
    model = LanguageModel(
        options.vocabulary_size, options.embedding_size, [layer], rngs=nnx.Rngs(0)
    )
    prompt = jnp.zeros((1, 1), jnp.int32)
    how = Sampling(temperature=0.8)
    return lambda: jax.block_until_ready(
        sample(model, prompt, options.length, jax.random.key(0), how)
    )


def pytorch(options: Options) -> Callable[[], object]:
    import torch

    embedding = torch.nn.Embedding(options.vocabulary_size, options.embedding_size)
    lstm = torch.nn.LSTM(options.embedding_size, options.hidden_size)
    output = torch.nn.Linear(options.hidden_size, options.vocabulary_size)
    # One thread is the fastest for products of one row: two wait for one another.
    torch.set_num_threads(1)

    @torch.inference_mode()
    def program() -> None:
        token, carry = torch.zeros(1, dtype=torch.long), None
        for _ in range(options.length):
            y, carry = lstm(embedding(token)[None], carry)
            probabilities = torch.softmax(output(y[0]) / 0.8, dim=-1)
            token = torch.multinomial(probabilities, 1)[:, 0]

    return program


def main() -> None:
    options = tyro.cli(Options)
    programs = {"jaxrnn, one compiled loop": ours(options)}
    if importlib.util.find_spec("torch"):
        programs["PyTorch, a Python loop over nn.LSTM"] = pytorch(options)
    medians = compare(programs, options.rounds)
    print(f"one stream, LSTM of {options.hidden_size} units, jax {jax.__version__}")
    show(medians, "characters/s", lambda seconds: options.length / seconds)


if __name__ == "__main__":
    terminal.run(main)
