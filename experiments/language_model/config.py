"""What a language model run is made of, and the presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxrnn.training.run.options import Options

# What a transformer has no place for.
RECURRENT = (
    "block",
    "tied",
    "last_size",
    "dropout_input",
    "dropout_between",
    "embedding_dropout",
    "recurrent_dropout",
    "weight_drop",
    "torch_init",
)
# Options that older versions did not know, and did without.
LATER = (
    "block",
    "feed_forward",
    "last_size",
    "varied_lengths",
    "dropout_input",
    "dropout_between",
    "embedding_dropout",
    "recurrent_dropout",
    "weight_drop",
    "activation_penalty",
    "temporal_penalty",
    "torch_init",
    "start_from",
)


@dataclass(frozen=True)
class Config(Options):
    """A recurrent language model, its text and its training."""

    data: Path | None = None
    """A text file, or a folder with train, valid and test files (.xz and .gz too);
    without it, the source code of Python's own standard library. A relative path is
    looked for from here, then in the folder that JAXRNN_DATA names."""
    run_dir: Path = Path("runs/language_model")
    """Where the run is kept; the same folder again goes on where it stopped."""
    steps: int = 4000
    learning_rate: float = 3e-3
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "cosine"

    tokens: Literal["character", "byte", "word"] = "character"
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of a single text file for training, validation and test, in its order."""
    sequence_length: int = 64
    """Steps of truncated backpropagation through time."""
    varied_lengths: bool = False
    """Draw the steps of each batch around sequence_length, and learn from it at a rate in
    proportion (Merity et al. 2018)."""

    cell: str = "lstm"
    """The name of any cell of jaxrnn in small letters: lstm, gru, elman, ...; or
    transformer, which sees the tokens of a batch before it and nothing of the batch before,
    in evaluations too."""
    layers: int = 1
    hidden_size: int = 256
    embedding_size: int = 64
    """A transformer's is its hidden_size."""
    last_size: int | None = None
    """Hidden size of the last layer; hidden_size unless given."""
    block: Literal["plain", "pre-norm"] = "plain"
    """pre-norm: layers that add to their input, which they see normalised, so that deep
    stacks train; embedding_size is then hidden_size."""
    feed_forward: int | None = None
    """Units of the dense layers after each recurrence of a pre-norm block, which has none
    without it; of those of a transformer, 4 times hidden_size without it."""
    heads: int = 4
    """Of a transformer."""
    dropout: float = 0.0
    """After the embedding and every layer."""
    dropout_input: float | None = None
    """After the embedding alone, in place of dropout."""
    dropout_between: float | None = None
    """Between the layers, in place of dropout."""
    embedding_dropout: float = 0.0
    """Of whole words, in all places of a batch."""
    recurrent_dropout: float = 0.0
    """Of h on its way to the next step, with one mask for all of time."""
    weight_drop: float = 0.0
    """Of the recurrent weights, with one mask for all of time."""
    activation_penalty: float = 0.0
    """Times the mean square of the last layer's outputs, dropped, added to the loss."""
    temporal_penalty: float = 0.0
    """Times the mean square of their steps in time, not dropped, added to the loss."""
    dropout_over_time: Literal["each", "shared"] = "each"
    """A mask for every time step, or one for all of them."""
    tied: bool = False
    """Use the embedding as the output layer's weights."""
    uniform_init: float | None = None
    """Draw all parameters uniformly from +- this, instead of each layer's own way."""
    torch_init: float | None = None
    """Draw embedding and output weights uniformly from +- this, those of a layer of H units
    from +- 1 / sqrt(H), and no output bias, as PyTorch's example of a language model."""
    start_from: Path | None = None
    """A run whose best parameters are where this one begins: to fine-tune them."""

    sample_prompt: str = "\n"
    sample_length: int = 600
    """Tokens of the sample at the end; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell == "transformer":
            for name in RECURRENT:
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"{name} is for recurrent cells, got a transformer")
        elif self.feed_forward is not None and self.block == "plain":
            raise ValueError("feed_forward is for --block pre-norm and for a transformer")
        if self.uniform_init is not None and self.torch_init is not None:
            raise ValueError("one of uniform_init and torch_init, got both")

    @property
    def dropouts(self) -> tuple[float, float, float]:
        """After the embedding, between the layers, after the last one."""
        enter, between = self.dropout_input, self.dropout_between
        return (
            self.dropout if enter is None else enter,
            self.dropout if between is None else between,
            self.dropout,
        )

    @property
    def before(self) -> dict[str, Any]:
        return super().before | {name: getattr(Config, name) for name in LATER}

    @property
    def free(self) -> frozenset[str]:
        free = super().free | {"sample_prompt", "sample_length", "start_from"}
        return free if self.cell == "transformer" else free | {"heads"}


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
