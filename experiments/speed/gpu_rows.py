"""Trains the published rows that two CPU cores cannot, in order of worth, and goes on.

    JAXRNN_DATA=data python -m experiments.speed.gpu_rows --minutes 10
    python -m experiments.speed.gpu_rows --only ptb-medium cs287
    python -m experiments.speed.gpu_rows --list

The presets are those of `experiments.language_model`; the same command goes on where the
last one stopped. What a row prints goes to `runs/NAME.log`. The expected minutes are
estimates, from step times on an H200 that does nothing else. The mark is ours, since no
paper gives one: a validation perplexity that the first epoch must be below, or the row is
given up.
Several at once (`--at-once`) pay where CUDA's multi-process service runs, since one
recurrence keeps a card waiting most of the time.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..results import PUBLISHED


class Row(NamedTuple):
    preset: str
    data: str  # a folder in JAXRNN_DATA
    minutes: float  # expected
    mark: float  # validation perplexity after the first epoch
    options: str = ""
    ways: tuple[str, ...] = ()  # of evaluating it once it is trained


DYNAMIC = (
    "--dynamic rms --dynamic-rate 5e-5 1e-4 2e-4 --dynamic-decay 2e-3 --grid-batches 3000"
)
CACHE = (
    "--cache-window 500 2000 --cache-theta 0.1 0.3 1 --cache-share 0.05 0.1 0.2 "
    "--grid-batches 300"
)
# A checkpoint holds all that a stopped row needs: one in a while is enough.
SELDOM = "--checkpoint-every 20000"
NARROW = f"{SELDOM} --precision bfloat16"

ROWS = [
    Row("cs287", "ptb", 1, 500, SELDOM, (DYNAMIC, CACHE)),
    Row("pytorch-650", "ptb", 5, 400, SELDOM, (DYNAMIC, CACHE)),
    Row("ptb-medium", "ptb", 5, 400, SELDOM),
    Row("ptb-char", "ptb-char", 3, 4, SELDOM),
    Row("ptb-large-tied", "ptb", 8, 400, NARROW),
    Row("wikitext2-200", "wikitext2", 4, 600, SELDOM),
    Row("ptb-char-layernorm", "ptb-char", 5, 4, SELDOM),
    Row("ptb-large", "ptb", 8, 400, NARROW),
    Row("ptb-small-tied", "ptb", 2, 500, SELDOM),
    Row("melis-10m", "ptb", 15, 2000, SELDOM),
    Row("awd-lstm", "ptb", 45, 700, SELDOM),
]


def folder(row: Row) -> Path:
    return Path("runs") / row.preset


def training(row: Row) -> list[str]:
    module = ["-m", "experiments.language_model.train", row.preset, "--data", row.data]
    return [sys.executable, *module, *row.options.split()]


def evaluating(row: Row, way: str) -> list[str]:
    module = ["-m", "experiments.language_model.evaluate", str(folder(row))]
    return [sys.executable, *module, *way.split()]


def first_perplexity(folder: Path) -> float | None:
    """What the first evaluation found, if there was one."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line).get("valid_loss") for line in lines]
    except (OSError, ValueError):  # none yet, or a line that is being written
        return None
    return next((math.exp(loss) for loss in losses if loss is not None), None)


def run(command: list[str], log: Path, until: float, row: Row) -> str:
    """Until it is done, misses the row's mark or time is over; says which."""
    with log.open("a") as lines:
        process = subprocess.Popen(
            command,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        while process.poll() is None:
            found = first_perplexity(folder(row))
            missed = found is not None and found > row.mark
            if missed or time.monotonic() > until:
                process.send_signal(signal.SIGTERM)  # a run saves itself and ends
                process.wait()
                if missed:
                    return f"given up: {found:.0f}, the mark is {row.mark:.0f}"
                return "stopped: the same command goes on"
            time.sleep(1)
    return "done" if process.returncode == 0 else f"failed, exit code {process.returncode}"


def reproduce(row: Row, until: float) -> None:
    """Trains it, then evaluates it in every way; what was done before stays."""
    log = folder(row).with_suffix(".log")
    log.parent.mkdir(exist_ok=True)
    verdict = "done"
    if not (folder(row) / "result.json").exists():
        verdict = run(training(row), log, until, row)
    if verdict == "done":
        result = json.loads((folder(row) / "result.json").read_text())
        verdict = f"done: {json.dumps(result)}"
    print(f"{row.preset}: {verdict}", flush=True)
    for number, way in enumerate(row.ways if verdict.startswith("done") else ()):
        log = folder(row) / f"evaluate-{number}.log"
        if not log.exists() or not log.read_text().endswith("}\n"):
            verdict = run(evaluating(row, way), log, until, row)
            print(f"{row.preset} {way}: {verdict}", flush=True)
        if verdict.startswith("done"):
            print(log.read_text().splitlines()[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--at-once", type=int, default=1, help="rows trained side by side")
    parser.add_argument("--only", nargs="+", help="presets")
    parser.add_argument("--list", action="store_true", help="only tell what would run")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    rows = [row for row in ROWS if not arguments.only or row.preset in arguments.only]
    for row in rows:
        about = f"{row.minutes:.0f} minutes, mark {row.mark:.0f}"
        published, source = PUBLISHED[row.preset][:2]
        print(f"{row.preset}: {published} ({source}); {about}", flush=True)
        if arguments.list:
            print("    python", *training(row)[1:])
    if not arguments.list:
        with ThreadPoolExecutor(arguments.at_once) as pool:
            list(pool.map(partial(reproduce, until=until), rows))


if __name__ == "__main__":
    main()
