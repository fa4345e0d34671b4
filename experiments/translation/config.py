"""What a translation run is made of, and the presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxrnn.training.run.options import Options


@dataclass(frozen=True)
class Config(Options):
    """A translator, its pairs of sentences and its training."""

    run_dir: Path = Path("runs/translation")
    """Where the run is kept; the same folder again goes on where it stopped."""
    steps: int = 3000
    batch_size: int = 128
    """Pairs of sentences side by side."""
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd"] = "adam"
    eval_every: int = 250
    checkpoint_every: int = 250

    corpus: Literal["multi30k", "pairs", "reversal"] = "multi30k"
    """multi30k: German to English, a folder of Multi30k's files. pairs: a file with two
    sentences a line, a tab between, the first one's language being translated, or a folder
    of two files, line for line, of which the first by name is. reversal: made up, to be
    written backwards in another alphabet."""
    backwards: bool = False
    """pairs: translate the second of each pair to the first."""
    tokens: Literal["word", "bpe"] = "word"
    """Words in small letters, or parts of words (Sennrich et al. 2016)."""
    min_frequency: int = 2
    """word: how often a word must be seen to be known."""
    vocabulary_size: int = 4000
    """bpe: the parts of words of each language."""
    longest: int = 50
    """Tokens of a pair's longer sentence, above which it is not learned from; also the
    tokens of a translation at most."""

    model: Literal["recurrent", "transformer"] = "recurrent"
    """What begins with one of these names below is for that model alone."""
    embedding_size: int = 256
    """The Transformer's width too."""
    dropout: float = 0.3
    cell: str = "gru"
    """recurrent: the name of any cell of jaxrnn in small letters, gru, lstm, elman, ..."""
    layers: int = 1
    hidden_size: int = 256
    """recurrent: of each direction of the encoder, and of the decoder."""
    attention: Literal["additive", "multiplicative", "context", "none"] = "additive"
    """recurrent: "additive" looks before each step (Bahdanau et al. 2015),
    "multiplicative" after each step (Luong et al. 2015); "context" gives the same summary
    of the source at every step (Cho et al. 2014), "none" only where the decoder starts
    (Sutskever et al. 2014)."""
    attention_size: int = 128
    """recurrent: of the hidden layer of additive scores."""
    readout_size: int = 256
    """recurrent: of the layer below the output layer."""
    teacher_forcing: tuple[float, float] = (1.0, 1.0)
    """recurrent: the share of time steps that are given the true word before, not the
    model's own, at the first step and at the last, linearly between (Bengio et al.
    2015)."""
    heads: int = 8
    """transformer: of each layer."""
    feed_forward: int = 512
    """transformer: of the wide layer after the heads."""


_BASE = Config()
# Eight epochs of 234 batches.
_DE_EN = replace(
    _BASE,
    data=Path("multi30k/raw"),
    run_dir=Path("runs/de-en"),
    steps=8 * 234,
    learning_rate=2e-3,
    schedule="cosine",
    warmup=0.05,
    dropout=0.4,
    eval_every=234,
    checkpoint_every=234,
)
# Four epochs; the sizes give both models about 7.1 million parameters.
_EN_ES = replace(
    _DE_EN,
    data=Path("tatoeba_spa_eng"),
    run_dir=Path("runs/en-es"),
    corpus="pairs",
    tokens="bpe",
    hidden_size=384,
    dropout=0.2,
    steps=3600,
    eval_every=450,
    checkpoint_every=450,
)
_TRANSFORMER = {
    "model": "transformer",
    "layers": 3,
    "dropout": 0.1,
    "learning_rate": 5e-4,
}

PRESETS: dict[str, tuple[str, Config]] = {
    "de-en": (
        "German to English on Multi30k, with additive attention.",
        _DE_EN,
    ),
    "de-en-luong": (
        "German to English on Multi30k, with multiplicative attention.",
        replace(_DE_EN, run_dir=Path("runs/de-en-luong"), attention="multiplicative"),
    ),
    "de-en-context": (
        "German to English on Multi30k, with one summary of the source.",
        replace(_DE_EN, run_dir=Path("runs/de-en-context"), attention="context"),
    ),
    "de-en-lstm": (
        "German to English on Multi30k, two layers of LSTM, no attention.",
        replace(
            _DE_EN,
            run_dir=Path("runs/de-en-lstm"),
            attention="none",
            cell="lstm",
            layers=2,
        ),
    ),
    "de-en-transformer": (
        "German to English on Multi30k, with a Transformer.",
        replace(
            _DE_EN,
            run_dir=Path("runs/de-en-transformer"),
            # Eight epochs at 5e-4 end 3.5 BLEU lower.
            steps=10 * 234,
            **_TRANSFORMER | {"learning_rate": 1e-3},
        ),
    ),
    "en-es": (
        "English to Spanish on Tatoeba's pairs, with additive attention.",
        _EN_ES,
    ),
    "en-es-transformer": (
        "English to Spanish on Tatoeba's pairs, with a Transformer.",
        replace(_EN_ES, run_dir=Path("runs/en-es-transformer"), **_TRANSFORMER),
    ),
    "pairs": (
        "Your own pairs of any two languages, with additive attention: --data FILE.",
        replace(_EN_ES, data=None, run_dir=Path("runs/pairs")),
    ),
    "tiny": (
        "Seconds: for the tests.",
        replace(
            _BASE,
            run_dir=Path("runs/tiny"),
            report=False,
            corpus="reversal",
            min_frequency=1,
            longest=12,
            batch_size=16,
            embedding_size=16,
            hidden_size=16,
            attention_size=16,
            readout_size=16,
            feed_forward=32,
            heads=2,
            steps=40,
            learning_rate=1e-2,
            dropout=0.1,
            eval_every=20,
            checkpoint_every=20,
            log_every=10,
        ),
    ),
}
