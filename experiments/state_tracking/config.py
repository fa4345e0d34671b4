"""What a state tracking run is made of, and the presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxrnn.training.run.options import Options

TaskName = Literal[
    "parity",
    "even-pairs",
    "cycle-navigation",
    "modular-arithmetic",
    "a5",
    "s5",
    "dyck",
    "selective-copying",
]


@dataclass(frozen=True)
class Config(Options):
    """A task, the lengths that it is trained on and asked at, and a network."""

    run_dir: Path = Path("runs/state_tracking")
    """Where the run is kept; the same folder again goes on where it stopped."""
    steps: int = 4000
    batch_size: int = 128
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd"] = "adam"
    learning_rate: float = 1e-2
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "cosine"
    warmup: float = 0.05
    eval_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 100

    task: TaskName = "parity"
    length: int = 40
    """The longest that it is trained on; every shorter one is trained on too."""
    asked: int = 500
    """The longest that it is asked at."""

    cell: str = "lstm"
    """The name of any cell of jaxrnn in small letters, or transformer."""
    layers: int = 1
    hidden_size: int = 128
    heads: int = 4
    """Of a transformer."""
    householders: int = 1
    """deltanet: reflections a step."""
    eigenvalues: Literal["[0, 1]", "[-1, 1]"] = "[0, 1]"
    """deltanet: what those of its transition lie in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.length <= self.asked:
            raise ValueError(
                "length must be 1 or more and asked no less, got "
                f"{self.length} and {self.asked}"
            )
        delta = self.householders, self.eigenvalues
        if self.cell != "deltanet" and delta != (1, "[0, 1]"):
            raise ValueError(
                f"householders and eigenvalues are deltanet's, got {delta} for {self.cell}"
            )


def _preset(task: TaskName, **options: object) -> Config:
    return replace(Config(), run_dir=Path("runs") / task, task=task, **options)


PRESETS: dict[str, tuple[str, Config]] = {
    "parity": ("Is the number of ones odd?", _preset("parity")),
    "even-pairs": ("Do the first and the last symbol agree?", _preset("even-pairs")),
    "cycle-navigation": (
        "Where on a circle of five places do the steps lead?",
        _preset("cycle-navigation"),
    ),
    "modular-arithmetic": (
        "What are digits with +, - and * between them, modulo 5?",
        _preset("modular-arithmetic"),
    ),
    "a5": (
        "The product of even permutations of five things (Merrill et al. 2024).",
        _preset("a5", length=20, asked=100),
    ),
    "s5": (
        "The product of permutations of five things (Merrill et al. 2024).",
        _preset("s5", length=20, asked=100),
    ),
    "dyck": ("Which bracket is to be closed next?", _preset("dyck")),
    "selective-copying": (
        "Sixteen symbols among blanks, in order (Gu & Dao 2023).",
        _preset("selective-copying", length=256, asked=256),
    ),
    "tiny": (
        "Seconds: for the tests.",
        replace(
            Config(),
            run_dir=Path("runs/tiny"),
            report=False,
            steps=20,
            batch_size=8,
            length=6,
            asked=12,
            hidden_size=8,
            eval_every=10,
            checkpoint_every=10,
            log_every=5,
        ),
    ),
}
