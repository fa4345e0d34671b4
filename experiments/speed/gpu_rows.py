"""Trains the published rows that two CPU cores cannot, in order of worth, and goes on.

    python -m experiments.speed.gpu_rows --data ptb --minutes 10
    python -m experiments.speed.gpu_rows --list

The same command goes on where the last one stopped. The expected minutes come from step
times on an H200, evaluation left out. The mark is ours, since no paper gives one: a
validation perplexity that the first epoch must be below, or the row is given up.
"""

import argparse
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

EPOCH = 1327  # steps of 20 x 35 words in Penn Treebank's training text


class Row(NamedTuple):
    name: str
    published: str
    minutes: float  # expected
    mark: float  # validation perplexity after the first epoch
    options: str


def zaremba(hidden: int, init: float, dropout: float, clip: float, stairs: str) -> str:
    # The paper sums the loss over 35 steps where this takes the mean.
    return (
        f"--hidden-size {hidden} --embedding-size {hidden} --sequence-length 35 "
        f"--uniform-init {init} --dropout {dropout} --learning-rate 35 "
        f"--clip {clip / 35:.6f} --decay-every {EPOCH} --eval-every {EPOCH} {stairs}"
    )


ROWS = [
    Row(
        "ptb-medium",
        "Zaremba et al. 2014, medium: perplexity 82.7 test, 86.2 validation",
        minutes=5,
        mark=400,
        options=zaremba(
            *(650, 0.05, 0.5, 5.0),
            f"--steps {39 * EPOCH} --decay-begin {6 * EPOCH} --decay {1 / 1.2:.6f}",
        ),
    ),
    Row(
        "ptb-large",
        "Zaremba et al. 2014, large: perplexity 78.4 test, 82.2 validation",
        minutes=12,
        mark=400,
        options=zaremba(
            *(1500, 0.04, 0.65, 10.0),
            f"--steps {55 * EPOCH} --decay-begin {14 * EPOCH} --decay {1 / 1.15:.6f}",
        ),
    ),
]


def command(row: Row, data: str) -> list[str]:
    module = ["-m", "experiments.language_model.train", "ptb-small", "--data", data]
    return [sys.executable, *module, "--run-dir", f"runs/{row.name}", *row.options.split()]


def first_perplexity(folder: Path) -> float | None:
    """What the first evaluation found, if there was one."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line).get("valid_loss") for line in lines]
    except (OSError, ValueError):  # none yet, or a line that is being written
        return None
    return next((math.exp(loss) for loss in losses if loss is not None), None)


def train(row: Row, data: str, until: float) -> str:
    """Runs it until it is done, misses its mark or time is over; says which."""
    folder = Path("runs") / row.name
    if (folder / "result.json").exists():
        return "done"
    process = subprocess.Popen(command(row, data))
    verdict = "stopped: the same command goes on"
    while process.poll() is None:
        found = first_perplexity(folder)
        missed = found is not None and found > row.mark
        if missed or time.monotonic() > until:
            verdict = (
                f"given up: {found:.0f}, the mark is {row.mark:.0f}" if missed else verdict
            )
            process.send_signal(signal.SIGTERM)  # the run saves itself and ends
            process.wait()
            return verdict
        time.sleep(1)
    return "done" if process.returncode == 0 else f"failed, exit code {process.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="ptb", help="the folder of Penn Treebank")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--list", action="store_true", help="only tell what would run")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    for row in ROWS:
        about = (
            f"{row.name}: {row.published}; {row.minutes:.0f} minutes, mark {row.mark:.0f}"
        )
        print(about, flush=True)
        if arguments.list:
            print("    python", *command(row, arguments.data)[1:])
        elif time.monotonic() < until:
            print(f"{row.name}: {train(row, arguments.data, until)}", flush=True)


if __name__ == "__main__":
    main()
