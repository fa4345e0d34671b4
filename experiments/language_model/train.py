"""Trains a recurrent language model.

    python -m experiments.language_model.train demo
    python -m experiments.language_model.train char --data input.txt --cell gru
    python -m experiments.language_model.train ptb-small --data ptb/ --run-dir runs/ptb

Interrupt it at any time; the same command goes on where it stopped and ends with the
same bits.
"""

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import tyro

from experiments.language_model.config import PRESETS, Config
from experiments.language_model.run import describe, load
from experiments.language_model.sample import write
from experiments.language_model.task import make_task
from experiments.language_model.text import Tokenizer, read_splits
from jaxrnn.models import Sampling
from jaxrnn.training.command import refusals
from jaxrnn.training.loop import Plan
from jaxrnn.training.run import Run
from jaxrnn.training.stop import StopRequest

# What may differ between two starts of one run without changing a bit of its result.
FREE = frozenset(
    {
        "run_dir",
        "data",
        "resume",
        "checkpoint_every",
        "log_every",
        "sample_prompt",
        "sample_length",
    }
)


def main() -> None:
    config = tyro.extras.overridable_config_cli(PRESETS, description=__doc__)
    with ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        with refusals():
            run, tokenizer = open_run(config)
            stack.enter_context(run)
            tokenizer.save(run.directory.tokenizer)
        if not run.train(stop):
            assert stop.signal is not None
            step, command = int(run.state.step), _this_command(config)
            print(f"stopped at step {step}; go on with: {command}")
            sys.exit(128 + stop.signal)
        run.finish()
    _show(config)


def open_run(config: Config) -> tuple[Run, Tokenizer]:
    """Raises ValueError if the text, the options or the run folder do not fit."""
    splits = read_splits(config.data, config.split)
    tokenizer = Tokenizer.of(config.tokens, splits["train"])
    tokens = {name: tokenizer.encode(text) for name, text in splits.items()}
    plan = Plan(config.steps, config.eval_every, config.checkpoint_every, config.log_every)
    task = make_task(config, tokens, tokenizer.size)
    run = Run(task, plan, config.run_dir, describe(config, splits), config.resume, FREE)
    return run, tokenizer


def _show(config: Config) -> None:
    model, tokenizer, _ = load(config.run_dir)
    how = Sampling(temperature=0.7)
    (text,) = write(
        model, tokenizer, config.sample_prompt, config.sample_length, how, seed=config.seed
    )
    print(f"\n{text}\n")
    sample = [*_python("sample"), str(config.run_dir), "--length", "500"]
    print(f"sample: {shlex.join(sample)}")
    print(f"resume: {_this_command(config)}")


def _this_command(config: Config) -> str:
    # Of two options of one name the last one counts.
    resume = ["--resume", "auto"] if config.resume == "never" else []
    return shlex.join([*_python("train"), *sys.argv[1:], *resume])


def _python(command: str) -> list[str]:
    # The interpreter of this folder's environment, which need not be activated.
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(Path.cwd()):
        python = str(interpreter.relative_to(Path.cwd()))
    else:
        python = "python"
    return [python, "-m", f"experiments.language_model.{command}"]


if __name__ == "__main__":
    main()
