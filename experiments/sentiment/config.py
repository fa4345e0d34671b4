"""What a sentiment run is made of, and the presets."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxrnn.training.run.options import Options


@dataclass(frozen=True)
class Config(Options):
    """A recurrent classifier of sentences, its corpus and its training."""

    data: Path | None = None
    """The folder of the Stanford Sentiment Treebank or of rt-polarity, or a file of lines
    label TAB text, or one of .csv with headings. A relative path is looked for from here,
    then in the folder that JAXRNN_DATA names."""
    run_dir: Path = Path("runs/sentiment")
    """Where the run is kept; the same folder again goes on where it stopped."""
    corpus: Literal["sst-2", "sst-5", "mr", "table", "toy"] = "sst-2"
    text_column: str | None = None
    """table: the heading above the texts, in a file with headings: "text" if not given."""
    label_column: str | None = None
    """table: the heading above the labels, likewise: "label" if not given."""

    tokens: Literal["character", "byte", "word"] = "word"
    at_least: int = 1
    """Tokens seen fewer times in the training texts are unknown."""
    longest: int = 400
    """Tokens of a text that are read; the rest is cut off."""

    cell: str = "lstm"
    """The name of any cell of jaxrnn in small letters: lstm, gru, elman, ..."""
    layers: int = 1
    hidden_size: int = 128
    """Units in each direction."""
    bidirectional: bool = True
    embedding_size: int = 128
    pooling: Literal["max", "attention", "last"] = "max"
    dropout: float = 0.5
    """Share of features dropped, the same ones at every time step."""
    recurrent_dropout: float = 0.0
    """Share of recurrent connections dropped, the same ones at every time step."""
    word_dropout: float = 0.1
    """Share of tokens replaced by the unknown one."""
    l2: float = 0.0
    """Adds this half times the squares of all parameters but the embedding to the loss."""


_BASE = Config()

_SMALL = replace(
    _BASE,
    batch_size=256,
    steps=1500,
    eval_every=150,
    checkpoint_every=300,
    schedule="cosine",
    learning_rate=3e-3,
    warmup=0.05,
    average=0.99,
)

# The LSTM rows of Tai et al. 2015, which begin with GloVe vectors where these learn their
# own; the embedding, tuned there by plain gradient descent, is left out of L2 as there.
_TAI = replace(
    _BASE,
    data=Path("sst"),
    hidden_size=168,
    embedding_size=300,
    pooling="last",
    word_dropout=0.0,
    l2=1e-4,
    optimiser="adagrad",
    learning_rate=0.05,
    clip=math.inf,
    batch_size=25,
    steps=10 * 3091,
    eval_every=3091,
    checkpoint_every=3091,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "sst2": (
        "A small BiLSTM on the two classes of the Stanford Sentiment Treebank.",
        replace(
            _SMALL,
            data=Path("sst"),
            run_dir=Path("runs/sst2"),
            embedding_size=100,
            # Overfits later than AdamW does, and its steps are cheaper.
            optimiser="sgd",
            learning_rate=0.6,
            momentum=0.9,
            clip=5.0,
            batch_size=128,
            average=0.998,
            steps=3600,
            eval_every=300,
        ),
    ),
    "sst5": (
        "The same on its five classes.",
        replace(
            _SMALL,
            data=Path("sst"),
            corpus="sst-5",
            run_dir=Path("runs/sst5"),
            steps=3000,
            eval_every=300,
        ),
    ),
    "mr": (
        "The same on the movie reviews of Pang & Lee 2005, whole sentences only.",
        replace(
            _SMALL,
            data=Path("mr"),
            corpus="mr",
            run_dir=Path("runs/mr"),
            steps=300,
            eval_every=30,
            checkpoint_every=100,
        ),
    ),
    "table": (
        "The same on your own file, of lines label TAB text or of .csv: --data FILE.",
        replace(_SMALL, corpus="table", run_dir=Path("runs/table")),
    ),
    "flax-sst2": (
        "The recipe of Flax's SST-2 example, with a linear output layer.",
        replace(
            _BASE,
            data=Path("sst"),
            run_dir=Path("runs/flax-sst2"),
            at_least=3,
            hidden_size=256,
            embedding_size=300,
            pooling="attention",
            optimiser="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=3e-6,
            weight_decay_of="all",
            clip=math.inf,
            batch_size=64,
            steps=10 * 1210,
            eval_every=1210,
            checkpoint_every=1210,
        ),
    ),
    "tai-lstm": (
        "The LSTM of Tai et al. 2015, without their word vectors.",
        replace(_TAI, bidirectional=False, run_dir=Path("runs/tai-lstm")),
    ),
    "tai-bilstm": (
        "The bidirectional LSTM of Tai et al. 2015, without their word vectors.",
        replace(_TAI, run_dir=Path("runs/tai-bilstm")),
    ),
    "tiny": (
        "Seconds, on sentences made here: for the tests.",
        replace(
            _BASE,
            run_dir=Path("runs/tiny-sentiment"),
            report=False,
            corpus="toy",
            hidden_size=16,
            embedding_size=16,
            dropout=0.1,
            word_dropout=0.0,
            learning_rate=2e-2,
            steps=60,
            eval_every=20,
            checkpoint_every=20,
            log_every=10,
        ),
    ),
}
