"""Trains networks to keep a state over lengths they have not seen.

    python -m experiments.state_tracking.train parity
    python -m experiments.state_tracking.train a5 --cell deltanet --eigenvalues "[-1, 1]" \\
        --householders 4 --run-dir runs/a5-deltanet

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import tyro

from jaxrnn.training.run import command, terminal

from .config import PRESETS
from .problem import make_problem


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    command.train(config, lambda: config.make_trainer(make_problem(config)))


if __name__ == "__main__":
    terminal.run(main)
