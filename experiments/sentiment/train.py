"""Trains a recurrent classifier of sentences.

    python -m experiments.sentiment.train sst2 --data sst/
    python -m experiments.sentiment.train table --data reviews.tsv --tokens byte
    python -m experiments.sentiment.train table --data reviews.csv --text-column review
    python -m experiments.sentiment.train tiny

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
