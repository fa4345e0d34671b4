"""Trains a recurrent language model.

    python -m experiments.language_model.train demo
    python -m experiments.language_model.train char --data input.txt --cell gru
    python -m experiments.language_model.train ptb-small --data ptb/ --run-dir runs/ptb

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import shlex

import tyro

from jaxrnn.models import Sampling
from jaxrnn.training.processes import is_first
from jaxrnn.training.run import command, terminal

from .config import PRESETS, Config
from .problem import make_problem
from .prompt import say_unseen, write
from .run import load_recurrent


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    command.train(config, lambda: config.make_trainer(make_problem(config)))
    with command.refusals(command.FAILED, options=config):  # the run itself is finished
        show(config)


def show(config: Config) -> None:
    texts = []
    if config.sample_length:
        model, tokenizer, _ = load_recurrent(config.run_dir)
        prompt, length = config.sample_prompt, config.sample_length
        sampling = Sampling(temperature=0.7)
        say_unseen(tokenizer, prompt)
        texts = write(model, tokenizer, prompt, length, sampling, seed=config.seed)
    if not is_first():  # loading the model took all processes
        return
    for text in texts:
        print(f"\n{text}\n")
    if config.cell != "transformer":
        sample = command.module_command(f"{__package__}.sample")
        print(f"sample: {shlex.join([*sample, str(config.run_dir), '--length', '500'])}")
    print(f"resume: {command.resume_command(config)}")


if __name__ == "__main__":
    terminal.run(main)
