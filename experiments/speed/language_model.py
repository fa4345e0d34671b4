"""Times the training step of a language model of words, beside a PyTorch loop.

    python -m experiments.speed.language_model --sizes 200 650 --rounds 15

Two layers of LSTM, 10,000 words, batches of 20 x 35, plain descent behind a clip of the
norm: the medium model of Zaremba et al. 2014 without its dropout, with as many units as
asked. In float32 and with products in bfloat16; every program is a process of its own and
they take their steps in turn, so that a drifting machine treats them alike. A step ends
with its loss at hand. Results go to `language_model.json` and `.md` in `--out`.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tyro

from jaxrnn.training.run import command, terminal

from . import probes
from .rivals import PACKAGES, Process, installed, processes_in_turn, spread
from .step_peers import PROGRAMS


@dataclass(frozen=True)
class Options:
    """Times the training step of a language model beside a PyTorch loop."""

    sizes: tuple[int, ...] = (200, 650)
    """Units of both layers and of the embedding."""
    rounds: int = 15
    out: Path = Path("speed-language-model")

    def __post_init__(self) -> None:
        if self.rounds < 1 or any(size < 1 for size in self.sizes):
            raise ValueError(
                "rounds and sizes must be 1 or more, got "
                f"{self.rounds} and {', '.join(map(str, self.sizes))}"
            )


def rows_of(size: int, rounds: int) -> list[dict]:
    """A row for each program: its milliseconds, and how many times ours they are."""
    processes = {
        name: Process("step_peers", name, str(size)) for name in PROGRAMS if installed(name)
    }
    seconds = processes_in_turn(processes, rounds)
    ours = seconds["jaxrnn.float32"]
    return [
        {
            "size": size,
            "program": name,
            **spread(seconds[name], ours),
            "first step, s": process.about["first"],
        }
        for name, process in processes.items()
    ]


def main() -> None:
    with command.refusals():
        options = tyro.cli(Options, description=__doc__)
    about = {
        "hardware": probes.processor(),
        "versions": {
            package: version(package)
            for package in sorted(
                {PACKAGES.get(name, "jax") for name in PROGRAMS if installed(name)}
            )
        },
        "rounds": options.rounds,
        "commit": probes.commit(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for size in options.sizes:
        rows += rows_of(size, options.rounds)
        results = [{"probe": "language_model", "rows": rows}]
        title = "The training step of a language model"
        body = ["", *probes.table(rows)]
        probes.write(options.out / "language_model", title, about, results, body)
    print("\n".join(probes.table(rows)))


if __name__ == "__main__":
    terminal.run(main)
