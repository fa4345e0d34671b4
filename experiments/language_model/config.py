"""What a language model run is made of, and the presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxrnn.training.run.options import Options


@dataclass(frozen=True)
class Config(Options):
    """A recurrent language model, its text and its training."""

    data: Path | None = None
    """A text file, a folder with train, valid and test files (.xz and .gz too), or any
    others: all files of a folder, or of a pattern in quotes such as 'books/*.txt', are one
    text; without it, the source code of Python's own standard library. A relative path is
    looked for from here, then in the folder that JAXRNN_DATA names."""
    run_dir: Path = Path("runs/language_model")
    """Where the run is kept; the same folder again goes on where it stopped."""
    steps: int = 4000
    learning_rate: float = 3e-3
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "cosine"

    tokens: Literal["character", "byte", "word"] = "character"
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of a text that no files split, for training, validation and test, in its
    order."""
    sequence_length: int = 64
    """Steps of truncated backpropagation through time."""

    cell: str = "lstm"
    """The name of any cell of jaxrnn in small letters: lstm, gru, elman, ..."""
    layers: int = 1
    hidden_size: int = 256
    embedding_size: int = 64
    dropout: float = 0.0
    dropout_over_time: Literal["each", "shared"] = "each"
    """A mask for every time step, or one for all of them."""
    tied: bool = False
    """Use the embedding as the output layer's weights."""
    uniform_init: float | None = None
    """Draw all parameters uniformly from +- this, instead of each layer's own way."""

    sample_prompt: str = "\n"
    sample_length: int = 600
    """Tokens of the sample at the end; 0 for none."""

    @property
    def free(self) -> frozenset[str]:
        return super().free | {"sample_prompt", "sample_length"}


_BASE = Config()

PRESETS: dict[str, tuple[str, Config]] = {
    "demo": (
        "A few minutes on a laptop: learns to write Python from Python's own source.",
        replace(
            _BASE,
            run_dir=Path("runs/demo"),
            tokens="byte",
            steps=2000,
            learning_rate=1e-2,
            warmup=0.03,
            eval_every=1000,
            sample_prompt="\n    def ",
        ),
    ),
    "char": (
        "Characters of a small text such as tinyshakespeare, in about a minute.",
        replace(
            _BASE,
            run_dir=Path("runs/char"),
            split=(0.9, 0.1, 0.0),
            steps=1200,
            learning_rate=1e-2,
            weight_decay=0.05,
            weight_decay_of="all",  # as its figure was measured
            warmup=0.04,
            eval_every=400,
        ),
    ),
    "ptb-small": (
        "The small model of Zaremba et al. 2014 on Penn Treebank words.",
        replace(
            _BASE,
            run_dir=Path("runs/ptb-small"),
            tokens="word",
            batch_size=20,
            sequence_length=20,
            layers=2,
            hidden_size=200,
            embedding_size=200,
            uniform_init=0.1,
            # The paper sums the loss over its 20 steps where this takes the mean: 20 times
            # the learning rate and a 20th of the clip (5) are the same updates.
            optimiser="sgd",
            learning_rate=20.0,
            clip=0.25,
            schedule="stairs",
            steps=13 * 2323,
            decay_begin=4 * 2323,
            decay_every=2323,
            eval_every=2323,
            checkpoint_every=1000,
            log_every=100,
        ),
    ),
    "tiny": (
        "Seconds: for the tests.",
        replace(
            _BASE,
            run_dir=Path("runs/tiny"),
            batch_size=8,
            sequence_length=16,
            hidden_size=16,
            embedding_size=8,
            dropout=0.1,
            steps=60,
            eval_every=20,
            checkpoint_every=20,
            log_every=10,
            sample_length=80,
        ),
    ),
}
