"""Trains a translator.

    python -m experiments.translation.train de-en --data multi30k/raw
    python -m experiments.translation.train en-es --data spa.txt
    python -m experiments.translation.train pairs --data deu.txt --attention multiplicative

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import shlex

import tyro

from jaxrnn.training.processes import is_first
from jaxrnn.training.run import command, terminal

from .config import PRESETS
from .problem import make_problem


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    command.train(config, lambda: config.make_trainer(make_problem(config)))
    if is_first():
        evaluate = command.module_command(f"{__package__}.evaluate")
        print(f"evaluate: {shlex.join([*evaluate, str(config.run_dir), '--beam', '5'])}")
        print(f"resume: {command.resume_command(config)}")


if __name__ == "__main__":
    terminal.run(main)
