"""Published recipes: what a row of somebody's table was trained with.

A paper's numbers stand here as it gives them: `loss_factor` is what it adds the loss up
over where these take its mean. Where a paper leaves something open, or its recipe has a
piece that is not here, a comment says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from .options import Config

Preset = tuple[str, Config]

# Words, with one <eos> a line; characters of the lines of PTB, as `ptb_char` writes them.
PTB, PTB_CHARACTERS, WIKITEXT2 = 929_589, 5_017_482, 2_088_628

WORDS = replace(Config(), tokens="word", checkpoint_every=1000, log_every=100)


def epoch(tokens: int, batch_size: int, sequence_length: int) -> int:
    """Its steps."""
    return (tokens - 1) // batch_size // sequence_length


def preset(name: str, config: Config, **options: Any) -> Config:
    return replace(config, run_dir=Path("runs") / name, **options)


def zaremba(
    name: str, size: int, bound: float, epochs: int, whole: int, decay: float, clip: float
) -> Config:
    """Zaremba et al. 2014 on 20 lanes of 35 steps; the rate falls after `whole` epochs."""
    steps = epoch(PTB, 20, 35)
    return preset(
        name,
        WORDS,
        batch_size=20,
        sequence_length=35,
        layers=2,
        hidden_size=size,
        embedding_size=size,
        uniform_init=bound,
        optimiser="sgd",
        learning_rate=1.0,
        loss_factor=35.0,
        clip=clip,
        schedule="stairs",
        steps=epochs * steps,
        decay_begin=whole * steps,
        decay_every=steps,
        decay=1 / decay,
        eval_every=steps,
    )


# The paper sums the loss over its 20 steps where this takes the mean: 20 times the learning
# rate and a 20th of the clip (5) are the same updates.
SMALL = preset(
    "ptb-small",
    WORDS,
    batch_size=20,
    sequence_length=20,
    layers=2,
    hidden_size=200,
    embedding_size=200,
    uniform_init=0.1,
    optimiser="sgd",
    learning_rate=20.0,
    clip=0.25,
    schedule="stairs",
    steps=13 * 2323,
    decay_begin=4 * 2323,
    decay_every=2323,
    eval_every=2323,
)
MEDIUM = replace(zaremba("ptb-medium", 650, 0.05, 39, 6, 1.2, 5.0), dropout=0.5)
LARGE = replace(zaremba("ptb-large", 1500, 0.04, 55, 14, 1.15, 10.0), dropout=0.65)


def pytorch_example(
    name: str, tokens: int, size: int, dropout: float, epochs: int, *, tied: bool = True
) -> Config:
    """pytorch/examples, word_language_model: a quarter of the rate after every epoch that
    is no better. It evaluates on 10 lanes: `evaluate --lanes 10`."""
    steps = epoch(tokens, 20, 35)
    return preset(
        name,
        WORDS,
        batch_size=20,
        sequence_length=35,
        layers=2,
        hidden_size=size,
        embedding_size=size,
        dropout=dropout,
        tied=tied,
        torch_init=0.1,
        optimiser="sgd",
        learning_rate=20.0,
        clip=0.25,
        schedule="plateau",
        decay=0.25,
        decay_threshold=1e-8,
        steps=epochs * steps,
        eval_every=steps,
    )


# srush/cs287, homework 2: the loss is the sum over all tokens of a batch. PyTorch waits one
# evaluation longer than the patience that it is given, which is 1 there.
CS287 = preset(
    "cs287",
    WORDS,
    batch_size=128,
    sequence_length=32,
    layers=2,
    hidden_size=512,
    embedding_size=512,
    dropout=0.5,
    dropout_input=0.0,
    tied=True,
    optimiser="adam",
    learning_rate=0.01,
    weight_decay=1e-4,
    weight_decay_of="all",
    loss_factor=128 * 32.0,
    clip=2.0,
    schedule="plateau",
    decay=0.25,
    decay_patience=2,
    decay_threshold=1e-3,
    steps=30 * epoch(PTB, 128, 32),
    eval_every=epoch(PTB, 128, 32),
)

# Merity et al. 2018 and its repository. An epoch of varied lengths has some 683 steps.
AWD_LSTM = preset(
    "awd-lstm",
    WORDS,
    batch_size=20,
    sequence_length=70,
    varied_lengths=True,
    layers=3,
    hidden_size=1150,
    embedding_size=400,
    last_size=400,
    tied=True,
    torch_init=0.1,
    dropout=0.4,
    dropout_between=0.25,
    dropout_over_time="shared",
    embedding_dropout=0.1,
    weight_drop=0.5,
    activation_penalty=2.0,
    temporal_penalty=1.0,
    optimiser="sgd",
    learning_rate=30.0,
    clip=0.25,
    weight_decay=1.2e-6,
    weight_decay_of="all",
    schedule="constant",
    average_after=5,
    steps=500 * 683,
    eval_every=683,
)

# Melis et al. 2018 by google-deepmind/lamb's settings: Adam without a mean of the gradient,
# a tenth of the rate after 90 evaluations without a gain. Not here: the cap on the input
# gate, and dropping the state in one batch of a hundred.
MELIS = preset(
    "melis-10m",
    WORDS,
    batch_size=64,
    sequence_length=35,
    hidden_size=1187,
    embedding_size=273,
    tied=True,
    dropout=0.33801,
    dropout_input=0.51551,
    recurrent_dropout=0.18417,
    optimiser="adam",
    beta1=0.0,
    learning_rate=0.0048308,
    weight_decay=7.676e-5,
    weight_decay_of="all",
    clip=10.0,
    schedule="plateau",
    decay=0.1,
    decay_patience=90,
    patience=100,
    steps=250_000,
    eval_every=100,
)

# Melis et al. 2020, trial 483 of lamb; its layer sizes are ours, of 24M parameters. Their
# mean begins after 50 evaluations without a gain.
MOGRIFIER = replace(
    MELIS,
    run_dir=Path("runs/mogrifier"),
    sequence_length=70,
    cell="mogrifierlstm",
    mogrifier_rank=84,
    layers=2,
    hidden_size=1160,
    embedding_size=400,
    dropout=0.7157,
    dropout_input=0.7291,
    dropout_between=0.2910,
    recurrent_dropout=0.0,  # 0.3873 of h there: VariationalDropout takes cells that split
    learning_rate=0.0023,
    weight_decay=2.5235e-4,
    schedule="constant",
    average_after=50,
    patience=None,
    steps=200_000,
    eval_every=1000,
)

# Ha et al. 2016, who do not say for how many epochs. Their dropout of 0.1 on the candidate
# (Semeniuta et al. 2016) is not here.
PTB_CHAR = preset(
    "ptb-char",
    Config(),
    batch_size=128,
    sequence_length=100,
    hidden_size=1000,
    embedding_size=50,
    dropout=0.1,
    optimiser="adam",
    learning_rate=1e-3,
    schedule="constant",
    clip=1.0,
    steps=50 * epoch(PTB_CHARACTERS, 128, 100),
    eval_every=epoch(PTB_CHARACTERS, 128, 100),
)

RECIPES: dict[str, Preset] = {
    "ptb-small": ("The small model of Zaremba et al. 2014 on Penn Treebank words.", SMALL),
    "ptb-medium": ("Their medium one: 82.7.", MEDIUM),
    "ptb-large": ("Their large one: 78.4.", LARGE),
    "ptb-small-tied": (
        "The small one with tied weights, Press & Wolf 2017: 112.4.",
        preset("ptb-small-tied", SMALL, tied=True),
    ),
    "ptb-large-tied": (
        "The large one with tied weights, Press & Wolf 2017: 74.3.",
        preset("ptb-large-tied", LARGE, tied=True),
    ),
    "pytorch-200": (
        "200 tied units of pytorch/examples on Penn Treebank words: 87.17.",
        pytorch_example("pytorch-200", PTB, 200, 0.2, 40),
    ),
    "pytorch-650": (
        "Its 650 tied units: 75.96.",
        pytorch_example("pytorch-650", PTB, 650, 0.5, 40),
    ),
    "cs287": ("2 x 512 tied units with Adam, srush/cs287: 73.27.", CS287),
    "melis-10m": ("One layer of 10M parameters, Melis et al. 2018: 59.6.", MELIS),
    "awd-lstm": ("AWD-LSTM, Merity et al. 2018: 58.8; then --start-from it.", AWD_LSTM),
    "mogrifier": ("Mogrifier LSTM, Melis et al. 2020: 50.1.", MOGRIFIER),
    "ptb-char": ("LSTM of 1000 on Penn Treebank characters: 1.312 bits.", PTB_CHAR),
    "ptb-char-layernorm": (
        "Its twin with layer normalisation: 1.267 bits.",
        preset("ptb-char-layernorm", PTB_CHAR, cell="layernormlstm"),
    ),
    "wikitext2-200": (
        "200 units of pytorch/examples on WikiText-2, 12 epochs: 114.95.",
        pytorch_example("wikitext2-200", WIKITEXT2, 200, 0.2, 12, tied=False),
    ),
    "wikitext2-650": (
        "650 tied units on WikiText-2, as in GluonNLP: 93.90.",
        pytorch_example("wikitext2-650", WIKITEXT2, 650, 0.5, 100),
    ),
}
