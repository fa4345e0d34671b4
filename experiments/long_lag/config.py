"""What a run over long time lags is made of, and the presets."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxrnn.training.run.options import Options


@dataclass(frozen=True)
class Config(Options):
    """Trials side by side, each a small network that learns one problem online."""

    run_dir: Path = Path("runs/long_lag")
    """Where the run is kept; the same folder again goes on where it stopped."""
    problem: Literal[
        "reber",
        "2a",
        "2b",
        "2c",
        "3a",
        "3b",
        "3c",
        "adding",
        "multiplication",
        "order2",
        "order3",
        "bai-adding",
        "bai-copy",
    ] = "adding"
    lag: int = 100
    """The T, p or q of the problem; Reber strings have the lags they have."""
    informative: int = 3
    """3: how many of the first numbers tell the class (N)."""
    symbols: int = 50
    """2c: the distractors to draw from (p)."""
    wrong: int = 140
    """multiplication: the wrong answers among 2,000 that end a trial (n_seq)."""

    trials: int = 30
    updates_per_step: int = 100
    """Updates of every trial in one compiled step."""
    batch_size: int = 1
    """Sequences an update; 1 is online learning."""
    updates: Literal["sequence", "step"] = "sequence"
    """When weights move: after a sequence, or at every step of it that has a target."""
    loss: Literal["squared", "cross-entropy"] = "squared"
    """reber: what is descended."""
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd"] = "sgd"
    learning_rate: float = 0.5
    clip: float = math.inf
    test_sequences: int = 2560

    cell: Literal[
        "lstm1997", "carousel", "lstm", "gru", "elman", "mingru", "transformer"
    ] = "lstm1997"
    """A cell of jaxrnn, or a Transformer in its place."""
    hidden_size: int = 4
    """Of the cell; the width of a transformer."""
    layers: int = 1
    """transformer: those that attend."""
    heads: int = 2
    """transformer: of each layer."""
    block_size: int = 2
    """lstm1997: cells that share their gates."""
    biases: Literal["all", "gates", "none"] = "all"
    """lstm1997: the units with a bias."""
    readout_bias: bool = True
    """Whether the network's outputs have biases."""
    input_bias: tuple[float, ...] = ()
    """lstm1997: where the input gates' biases start, one a block; () for 0."""
    output_bias: tuple[float, ...] = ()
    """lstm1997: where the output gates' biases start."""
    gradient: Literal["full", "truncated"] = "truncated"
    """lstm1997: the paper cuts it where it leaves a cell or gate for the step before."""
    cell_from: int = 0
    """Updates before the network's outputs read its cell: the paper adds cells once the
    error without them no longer falls."""
    input_activation: str = "logistic[-2,2]"
    """lstm1997: g, between a cell's net input and its state."""
    output_activation: str = "logistic[-1,1]"
    """lstm1997: h, between a cell's state and its output."""
    init_range: float = 0.1
    """Of the output weights and of all weights of the cells of 1997."""

    log_every: int = 10
    eval_every: int = 10
    checkpoint_every: int = 50

    def check(self) -> None:
        """Raises ValueError for options that are out of range, contradict one another, or
        would have no effect here."""
        for name in ("trials", "updates_per_step", "batch_size", "lag"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.problem in ("order2", "order3") and self.lag < 10:
            raise ValueError(f"{self.problem} needs a lag of 10 or more, got {self.lag}")
        if self.precision != "float32":
            raise ValueError(f"long_lag multiplies in float32, got {self.precision!r}")
        if self.fsdp:
            raise ValueError("long_lag keeps its trials whole: fsdp has no effect here")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.updates == "step" and (self.batch_size > 1 or self.cell == "transformer"):
            raise ValueError(
                'updates of "step" take a batch_size of 1 and no transformer, got '
                f"{self.batch_size} and {self.cell}"
            )
        if self.batch_size > 1 and not self.problem.startswith("bai-"):
            raise ValueError(
                f"the criterion of {self.problem} counts single sequences, got a "
                f"batch_size of {self.batch_size}"
            )
        if self.loss == "cross-entropy" and self.problem != "reber":
            raise ValueError(f'a loss of "cross-entropy" is for reber, got {self.problem}')
        if self.cell_from and self.cell == "transformer":
            raise ValueError(
                f"a transformer has no cell to add, got {self.cell_from} updates before it"
            )
        if self.schedule != "constant" and self.updates == "step":
            raise ValueError(f'updates of "step" have no schedule, got {self.schedule}')
        if self.schedule == "plateau":
            raise ValueError("trials have no learning rate in common, got plateau")
        for name in ("data", "average", "on_nan", "nan_limit"):
            if getattr(self, name) != getattr(Config, name):
                raise ValueError(f"{name} has no effect here, got {getattr(self, name)}")


_BASE = Config()
_REBER = replace(
    _BASE,
    run_dir=Path("runs/reber"),
    problem="reber",
    biases="gates",
    readout_bias=False,
    init_range=0.2,
    # Unlike the paper: its gradient is truncated, and its text has h in [-1, 1], though its
    # Table 10 has [-2, 2]. Not every trial learns the grammar with either choice.
    gradient="full",
    updates="step",
    output_activation="logistic[-2,2]",
    updates_per_step=20,
    steps=1250,
)
_THREE_PAIRS = replace(_REBER, hidden_size=6, block_size=2, output_bias=(-1.0, -2.0, -3.0))
# Ours: as _THREE_PAIRS, at a rate of 0.5, two trials of five fail within 25,000 sequences.
_REBER_OURS = replace(
    _THREE_PAIRS,
    loss="cross-entropy",
    learning_rate=0.02,
    weight_decay=1e-3,
    weight_decay_of="all",
    init_range=0.1,
    input_activation="logistic[-1,1]",
    output_activation="logistic[-4,4]",
    steps=2000,
)
_FOUR_CELLS = replace(
    _REBER, hidden_size=4, block_size=1, output_bias=(-1.0, -2.0, -3.0, -4.0)
)
# Adam is ours: at a rate of 1, plain descent takes some ten times as many sequences.
_CAROUSEL = replace(
    _BASE,
    cell="carousel",
    hidden_size=1,
    readout_bias=False,
    init_range=0.2,
    optimiser="adam",
    learning_rate=0.05,
    cell_from=1000,
    trials=18,
    steps=200,
)
_DISTRACTORS = replace(
    _BASE,
    problem="2c",
    lag=50,
    hidden_size=2,
    block_size=1,
    biases="none",
    readout_bias=False,
    learning_rate=0.01,
    init_range=0.2,
    trials=20,
)
_NOISE = replace(
    _BASE,
    hidden_size=3,
    block_size=1,
    readout_bias=False,
    learning_rate=1.0,
    input_bias=(-1.0, -3.0, -5.0),
    output_bias=(-2.0, -4.0, -6.0),
    trials=10,
    steps=3000,
)
_BAI = replace(
    _BASE,
    run_dir=Path("runs/bai"),
    trials=1,
    batch_size=32,
    optimiser="adam",
    learning_rate=1e-3,
    clip=1.0,
    cell="gru",
    hidden_size=150,
    updates_per_step=100,
    steps=70,
    test_sequences=1000,
    checkpoint_every=10,
)


def _preset(base: Config, name: str, **changes) -> Config:
    return replace(base, run_dir=Path("runs") / name, **changes)


PRESETS: dict[str, tuple[str, Config]] = {
    "reber": (
        "Experiment 1: embedded Reber grammar, 3 blocks of 2 cells, a recipe of ours.",
        _preset(_REBER_OURS, "reber"),
    ),
    "reber-4x1-0.1": (
        "Experiment 1: embedded Reber grammar, 4 blocks of 1 cell, rate 0.1.",
        _preset(_FOUR_CELLS, "reber-4x1-0.1", learning_rate=0.1),
    ),
    "reber-3x2-0.1": (
        "Experiment 1, 3 blocks of 2 cells, rate 0.1.",
        _preset(_THREE_PAIRS, "reber-3x2-0.1", learning_rate=0.1),
    ),
    "reber-3x2-0.2": (
        "Experiment 1, 3 blocks of 2 cells, rate 0.2.",
        _preset(_THREE_PAIRS, "reber-3x2-0.2", learning_rate=0.2),
    ),
    "reber-4x1-0.5": (
        "Experiment 1, 4 blocks of 1 cell, rate 0.5.",
        _preset(_FOUR_CELLS, "reber-4x1-0.5", learning_rate=0.5),
    ),
    "reber-3x2-0.5": (
        "Experiment 1, 3 blocks of 2 cells, rate 0.5.",
        _preset(_THREE_PAIRS, "reber-3x2-0.5", learning_rate=0.5),
    ),
    "2a": (
        "Experiment 2a: long time lags without noise, with Adam.",
        _preset(_CAROUSEL, "2a", problem="2a"),
    ),
    "2a-sgd": (
        "Experiment 2a, plain descent at every symbol, rate 1.",
        _preset(
            _CAROUSEL,
            "2a-sgd",
            problem="2a",
            optimiser="sgd",
            learning_rate=1.0,
            updates="step",
            steps=1000,
        ),
    ),
    "2b": (
        "Experiment 2b: long time lags, random symbols between, with Adam.",
        _preset(_CAROUSEL, "2b", problem="2b"),
    ),
    "2c": (
        "Experiment 2c: long time lags with distractors, q = p = 50, with Adam.",
        _preset(_DISTRACTORS, "2c", optimiser="adam", steps=600),
    ),
    "2c-sgd": (
        "Experiment 2c, plain descent.",
        _preset(_DISTRACTORS, "2c-sgd", steps=2000),
    ),
    "3a": (
        "Experiment 3a: two sequences, noise after the first N = 3 numbers.",
        _preset(_NOISE, "3a", problem="3a"),
    ),
    "3b": (
        "Experiment 3b: noise on the first numbers too.",
        _preset(_NOISE, "3b", problem="3b"),
    ),
    "3c": (
        "Experiment 3c: noisy targets.",
        _preset(_NOISE, "3c", problem="3c", learning_rate=0.1, steps=10000),
    ),
    "adding": (
        "Experiment 4: add two marked numbers, T = 100.",
        _preset(_BASE, "adding", input_bias=(-3.0, -6.0), trials=10, steps=4000),
    ),
    "multiplication": (
        "Experiment 5: multiply two marked numbers, T = 100.",
        _preset(
            _BASE,
            "multiplication",
            problem="multiplication",
            learning_rate=0.1,
            trials=10,
            steps=20000,
        ),
    ),
    "order2": (
        "Experiment 6a: the order of two symbols.",
        _preset(
            _BASE,
            "order2",
            problem="order2",
            input_bias=(-2.0, -4.0),
            trials=20,
            steps=2000,
        ),
    ),
    "order3": (
        "Experiment 6b: the order of three symbols.",
        _preset(
            _BASE,
            "order3",
            problem="order3",
            hidden_size=6,
            input_bias=(-2.0, -4.0, -6.0),
            learning_rate=0.1,
            trials=10,
            steps=20000,
        ),
    ),
    "bai-adding": (
        "The adding problem of Bai et al. 2018, T = 600, some 70,000 weights.",
        _preset(_BAI, "bai-adding", problem="bai-adding", lag=600),
    ),
    "bai-copy": (
        "The copy memory of Bai et al. 2018, T = 1,000.",
        _preset(_BAI, "bai-copy", problem="bai-copy", lag=1000),
    ),
    "tiny": (
        "Seconds: for the tests.",
        _preset(
            _BASE,
            "tiny",
            report=False,
            problem="order2",
            lag=10,
            trials=3,
            updates_per_step=20,
            steps=6,
            eval_every=2,
            checkpoint_every=2,
            log_every=1,
            test_sequences=16,
        ),
    ),
}
