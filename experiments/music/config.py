"""What a run on polyphonic music is made of, and the presets."""

from dataclasses import dataclass, replace
from pathlib import Path

from jaxrnn.training.run.options import Options


@dataclass(frozen=True)
class Config(Options):
    """A recurrent model of polyphonic music, its pieces and its training."""

    data: Path | None = Path("poly_music/JSB_Chorales.mat")
    """A set of Boulanger-Lewandowski et al. 2012, as a MATLAB file. A relative path is
    looked for from here, then in the folder that JAXRNN_DATA names."""
    run_dir: Path = Path("runs/music")
    """Where the run is kept; the same folder again goes on where it stopped."""
    sequence_length: int = 200
    """Longer pieces are cut for training, each part beginning without a past. Evaluation
    takes them whole."""

    cell: str = "lstm"
    """The name of any cell of jaxrnn in small letters: lstm, gru, elman, ..."""
    layers: int = 1
    hidden_size: int = 36
    dropout: float = 0.0
    weight_noise: float = 0.0
    """The standard deviation of what is added to each parameter in training, drawn anew
    for every batch."""

    candidates: int = 1
    """Models trained side by side, from parameters and with a learning rate of their own;
    the best in validation is tested."""
    rate_spread: float = 0.0
    """Candidates learn at `learning_rate` times exp(uniform in +- this)."""


def _chung(name: str, cell: str, hidden_size: int) -> tuple[str, Config]:
    # Batch size, length of training and how parameters begin are ours.
    config = Config(
        run_dir=Path(f"runs/music-chung-{name}"),
        cell=cell,
        hidden_size=hidden_size,
        optimiser="rmsprop",
        weight_noise=0.075,
        clip=1.0,
        # exp(U(-12, -6)), which is exp(-9) times exp(U(-3, 3))
        learning_rate=1.234e-4,
        candidates=10,
        rate_spread=3.0,
        batch_size=16,
        steps=4000,
        eval_every=100,
        checkpoint_every=500,
        patience=10,
    )
    return f"The {hidden_size} units of Chung et al. 2014, ten learning rates.", config


def _bai_jsb(name: str, cell: str) -> tuple[str, Config]:
    # The paper gives the LSTM's sizes, forget bias 10 and parameters from N(0, 0.01); here
    # the bias is 1, and all cells have these sizes and begin their own way, in batches.
    # The average of the parameters over the last hundred steps is ours too.
    config = Config(
        run_dir=Path(f"runs/music-bai-jsb-{name}"),
        cell=cell,
        layers=2,
        hidden_size=200,
        dropout=0.2,
        optimiser="adam",
        learning_rate=2e-3,
        clip=1.0,
        average=0.99,
        batch_size=8,
        steps=2000,
        eval_every=50,
        checkpoint_every=500,
        patience=10,
    )
    return "JSB chorales with the layers of Bai et al. 2018.", config


def _bai_nottingham(
    name: str, cell: str, layers: int, hidden_size: int, learning_rate: float = 4e-3
) -> tuple[str, Config]:
    # As above; pieces are cut at 200 frames for training. The paper has three layers of 280
    # or one of 500 for the LSTM; one layer of a GRU is still at 4 nats after 2,000 steps.
    config = Config(
        data=Path("poly_music/Nottingham.mat"),
        run_dir=Path(f"runs/music-bai-nottingham-{name}"),
        cell=cell,
        layers=layers,
        hidden_size=hidden_size,
        dropout=0.1,
        optimiser="adam",
        learning_rate=learning_rate,
        clip=1.0,
        batch_size=16,
        steps=1500,
        eval_every=100,
        checkpoint_every=500,
        patience=5,
    )
    return "Nottingham with the layers of Bai et al. 2018.", config


_BAI_CELLS = {"tanh": "elman", "gru": "gru", "lstm": "lstm"}

PRESETS: dict[str, tuple[str, Config]] = {
    "chung-tanh": _chung("tanh", "elman", 100),
    "chung-gru": _chung("gru", "resetbeforegru", 46),
    "chung-lstm": _chung("lstm", "lstm", 36),
    **{f"bai-jsb-{name}": _bai_jsb(name, cell) for name, cell in _BAI_CELLS.items()},
    # At the paper's 4e-3 the tanh network stays above 6 nats.
    "bai-nottingham-tanh": _bai_nottingham("tanh", "elman", 3, 280, 5e-4),
    "bai-nottingham-gru": _bai_nottingham("gru", "gru", 3, 280),
    "bai-nottingham-lstm": _bai_nottingham("lstm", "lstm", 1, 500),
    "tiny": (
        "Seconds, on music made here: for the tests.",
        replace(
            Config(),
            data=None,
            run_dir=Path("runs/music-tiny"),
            report=False,
            sequence_length=12,
            hidden_size=16,
            dropout=0.1,
            weight_noise=0.01,
            candidates=2,
            rate_spread=1.0,
            optimiser="rmsprop",
            learning_rate=1e-2,
            batch_size=8,
            steps=60,
            eval_every=20,
            checkpoint_every=20,
            log_every=10,
        ),
    ),
}
