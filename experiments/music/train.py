"""Trains recurrent models of polyphonic music.

    python -m experiments.music.train chung-gru --data poly_music/JSB_Chorales.mat
    python -m experiments.music.train bai-nottingham-lstm --data poly_music/Nottingham.mat

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import tyro

from jaxrnn.training.run import command, terminal

from .config import PRESETS
from .selection import make_selection


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    command.train(config, lambda: make_selection(config))


if __name__ == "__main__":
    terminal.run(main)
