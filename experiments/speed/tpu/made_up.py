"""Every preset's problem at the sizes of its data set, learned from data made up here.

Programs depend on sizes alone: vocabularies, classes and the longest example of each data
set, as its problem counts them from the files, are written down here, and the examples
are as long and say nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.tokenizer import END_OF_LINE, UNKNOWN, Tokenizer
from jaxrnn.data.vocabulary import MARKS, Vocabulary
from jaxrnn.training import Trainer

from ...language_model import config as language_model
from ...language_model.problem import NextToken
from ...language_model.text import Text
from ...long_lag import config as long_lag
from ...long_lag.trials import make_trials
from ...music import config as music
from ...music.pieces import KEYS, SPLITS, Pieces
from ...music.problem import Music
from ...sentiment import config as sentiment
from ...sentiment.data import Corpus, Example
from ...sentiment.problem import Sentiment
from ...translation import config as translation
from ...translation.pairs import Pairs
from ...translation.problem import Languages, Translation

# Of tinyshakespeare and of Penn Treebank; a byte is one of 256.
VOCABULARIES = {"character": 66, "word": 10_000}
WORDS_OF_LARGER = {"4x2048": 32_000, "1 billion": 32_000}

# The frames of the longest pieces for training, and of all.
PIECES = {"JSB_Chorales.mat": (129, 160), "Nottingham.mat": (1788, 1793)}
MADE_HERE = (19, 19)


class Sentences(NamedTuple):
    classes: int
    vocabulary: int
    longest: int  # of its splits


SENTENCES = {
    "sst-2": Sentences(2, 16_319, 56),
    "sst-5": Sentences(5, 16_525, 56),
    "mr": Sentences(2, 18_060, 63),
    "table": Sentences(2, 18_060, 63),  # as mr: a table is the user's own
    "toy": Sentences(2, 21, 10),
}
SEEN_THRICE = 14_653  # of the words of sst-2


class Sides(NamedTuple):
    source: int  # words or parts of words
    target: int
    longest: int  # tokens of a sentence, its end included


LANGUAGES = {
    "multi30k": Sides(7882, 5901, 46),
    "pairs": Sides(4000, 4000, 50),
    "reversal": Sides(12, 12, 6),
}

_MEDIUM = replace(
    language_model.PRESETS["ptb-small"][1],
    sequence_length=35,
    hidden_size=650,
    embedding_size=650,
    dropout=0.5,
)
_LARGE = replace(_MEDIUM, hidden_size=1500, embedding_size=1500, dropout=0.65)
_HUGE = replace(
    language_model.Config(),
    tokens="word",
    batch_size=64,
    layers=4,
    hidden_size=2048,
    embedding_size=2048,
)
# The models of Zaremba et al. 2014, and beyond them with AdamW.
LARGER: dict[str, tuple[str, Any]] = {
    "2x650": ("The medium model of Zaremba et al. 2014.", _MEDIUM),
    "2x1500": ("Their large model.", _LARGE),
    "4x2048": ("Four layers of 2,048 units, 32,000 words.", _HUGE),
    "1 billion": (
        "Four layers of 5,120 units, tied to 32,000 words, the state in parts.",
        replace(
            _HUGE,
            hidden_size=5120,
            embedding_size=5120,
            tied=True,
            batch_size=256,
            fsdp=True,
        ),
    ),
}


def learn_text(name: str, config: Any) -> Trainer:
    size = WORDS_OF_LARGER.get(name, VOCABULARIES.get(config.tokens, 0))
    marks = (UNKNOWN, END_OF_LINE) if config.tokens == "word" else (UNKNOWN,)
    symbols = () if config.tokens == "byte" else (*_names(size - len(marks)), *marks)
    tokenizer = Tokenizer(config.tokens, symbols)
    count = config.batch_size * config.sequence_length + 1
    text = (" " if config.tokens == "word" else "").join(["a"] * count).encode()
    encoded = tokenizer.encode(text)
    tokens = {"train": encoded, "valid": encoded}
    return config.make_trainer(NextToken(config, Text(tokenizer, tokens, sha256="")))


def learn_trials(name: str, config: Any) -> Trainer:
    return make_trials(config)


def learn_music(name: str, config: Any) -> Trainer:
    longest = PIECES[config.data.name] if config.data else MADE_HERE
    learned = min(longest[0], config.sequence_length + 1)
    frames = dict.fromkeys(SPLITS, longest[1]) | {"train": learned}
    pieces: dict[str, Pieces] = {
        split: [np.zeros((n, KEYS), np.uint8)] for split, n in frames.items()
    }
    return config.make_trainer(Music(config, pieces))


def learn_sentiment(name: str, config: Any) -> Trainer:
    sizes = SENTENCES[config.corpus]
    words = sizes.vocabulary if config.at_least == 1 else SEEN_THRICE
    tokenizer = Tokenizer(config.tokens, (*_names(words - 1), UNKNOWN))
    longest = [Example(" ".join(["a"] * sizes.longest), 0)]
    corpus = Corpus(tuple(_names(sizes.classes)), dict.fromkeys(SPLITS, longest))
    return config.make_trainer(Sentiment(config, tokenizer, corpus))


def learn_translation(name: str, config: Any) -> Trainer:
    sizes = LANGUAGES[config.corpus]
    languages = Languages(
        *(Vocabulary((*MARKS, *_names(size - len(MARKS)))) for size in sizes[:2])
    )
    sentence = " ".join(["a"] * (sizes.longest - 1))
    pairs = Pairs([sentence], [sentence])
    splits: dict[str, Pairs] = {split: pairs for split in SPLITS}
    return config.make_trainer(Translation(config, languages, splits))


class Experiment(NamedTuple):
    presets: Mapping[str, tuple[str, Any]]
    learn: Callable[[str, Any], Trainer]


EXPERIMENTS = {
    "language_model": Experiment(language_model.PRESETS, learn_text),
    "larger": Experiment(LARGER, learn_text),
    "music": Experiment(music.PRESETS, learn_music),
    "sentiment": Experiment(sentiment.PRESETS, learn_sentiment),
    "translation": Experiment(translation.PRESETS, learn_translation),
    "long_lag": Experiment(long_lag.PRESETS, learn_trials),
}


def trainer(experiment: str, preset: str) -> Trainer:
    """As the preset's command makes it, but for the data."""
    presets, learn = EXPERIMENTS[experiment]
    return learn(preset, presets[preset][1])


def _names(count: int) -> list[str]:
    """So many different symbols of one character, "a" the first."""
    return ["a", *(chr(0x4E00 + number) for number in range(1, count))]
