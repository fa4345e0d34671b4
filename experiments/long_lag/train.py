"""Trains trials of a small network on a problem with a long time lag.

    python -m experiments.long_lag.train adding
    python -m experiments.long_lag.train adding --cell gru
    python -m experiments.long_lag.train reber-3x2-0.5

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import tyro

from jaxrnn.training.run import command, terminal

from .config import PRESETS
from .trials import make_trials


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    command.train(config, lambda: make_trials(config))


if __name__ == "__main__":
    terminal.run(main)
