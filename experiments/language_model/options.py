"""What a language model run is made of."""

from dataclasses import dataclass
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
    "mogrifier_rounds",
    "mogrifier_rank",
    "varied_lengths",
    "dropout_input",
    "dropout_between",
    "embedding_dropout",
    "recurrent_dropout",
    "weight_drop",
    "activation_penalty",
    "temporal_penalty",
    "torch_init",
)


@dataclass(frozen=True)
class Config(Options):
    """A recurrent language model, its text and its training."""

    data: Path | None = None
    """A text file, a folder with train, valid and test files (.xz and .gz too), or any
    others: all files of a folder, or of a pattern in quotes such as 'books/*.txt', are one
    text. Or a folder that `python -m experiments.language_model.prepare` made of a text of
    any size; without it, the source code of Python's own standard library. A relative path
    is looked for from here, then in the folder that JAXRNN_DATA names."""
    run_dir: Path = Path("runs/language_model")
    """Where the run is kept; the same folder again goes on where it stopped."""
    steps: int = 4000
    learning_rate: float = 3e-3
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "cosine"

    tokens: Literal["character", "byte", "word", "bpe"] = "character"
    """bpe, parts of words, takes prepared text."""
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of a text that no files split, for training, validation and test, in its
    order."""
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
    mogrifier_rounds: int = 5
    """mogrifierlstm: how often input and state scale one another."""
    mogrifier_rank: int | None = None
    """mogrifierlstm: of the products that they are scaled by; whole without it."""
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

    sample_prompt: str = "\n"
    sample_length: int = 600
    """Tokens of the sample at the end, and of those with evaluations up to 200; 0 for
    none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell == "transformer":
            for name in RECURRENT:
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"{name} is for recurrent cells, got a transformer")
        elif self.feed_forward is not None and self.block == "plain":
            raise ValueError("feed_forward is for --block pre-norm and for a transformer")
        mogrifier = self.mogrifier_rounds, self.mogrifier_rank
        if self.cell != "mogrifierlstm" and mogrifier != (5, None):
            raise ValueError(
                "mogrifier_rounds and mogrifier_rank are a mogrifierlstm's, got "
                f"{mogrifier} for {self.cell}"
            )
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
        free = super().free | {"sample_prompt", "sample_length"}
        return free if self.cell == "transformer" else free | {"heads"}
