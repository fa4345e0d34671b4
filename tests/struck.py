"""Trains a language model that is struck on the way: `struck.py WHAT ARGUMENTS ...`.

WHAT is JSON: `blows`, each a signal to this process, an error of the system or a limit to
the size of files at a moment of the run, and `poison`, the steps whose loss is no number.
"""

import atexit
import importlib
import json
import os
import resource
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

# What a process tells its audit hooks when it changes files.
FILE_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"}


def strike(blow: dict[str, Any]) -> None:
    if blow["signal"]:
        os.kill(os.getpid(), blow["signal"])
        return
    if blow["errno"]:
        raise OSError(blow["errno"], os.strerror(blow["errno"]))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (blow["room"], hard))


def wrap(target: str, before: Any) -> None:
    """Has "module:Class.function" call `before` first."""
    module, _, names = target.partition(":")
    owner = importlib.import_module(module)
    *outer, name = names.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        before()
        return function(*arguments, **options)

    setattr(owner, name, wrapped)


def at_count(blow: dict[str, Any]) -> Any:
    """Strikes when it is called for the nth time, and so many `times`."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if 0 <= calls - blow["n"] < blow["times"]:
            strike(blow)

    return count


def some_time_later(blow: dict[str, Any]) -> Any:
    """Strikes the blow's seconds after it is called for the first time."""
    timers: list[threading.Timer] = []

    def begin() -> None:
        if not timers:
            timers.append(threading.Timer(blow["seconds"], strike, [blow]))
            timers[0].daemon = True
            timers[0].start()

    return begin


def at_file_changes(folder: str, change: Any) -> None:
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in FILE_CHANGES or folder not in str(arguments[0]):
            return
        reading = event == "open" and not set("wax+") & set(str(arguments[1]))
        if not reading:
            seen += 1
            change()

    sys.addaudithook(watch)
    atexit.register(lambda: print(f"{seen} changes of files", file=sys.stderr))


def prepare(blow: dict[str, Any], run_dir: str) -> None:
    if blow["seconds"] is not None:
        wrap(blow["moment"], some_time_later(blow))
    elif ":" in blow["moment"]:
        wrap(blow["moment"], at_count(blow))
    else:
        at_file_changes(run_dir, at_count(blow))


def poison(steps: list[int]) -> None:
    import jax.numpy as jnp

    from experiments.language_model.problem import NextToken

    clean_batch, clean_loss = NextToken.batch, NextToken.loss

    def batch(problem: Any, step: int, rows: Any) -> Any:
        batch = clean_batch(problem, step, rows)
        return batch._replace(mask=batch.mask & (step + 1 not in steps))

    def loss(problem: Any, params: Any, carry: Any, batch: Any, key: Any) -> Any:
        value, carry, metrics = clean_loss(problem, params, carry, batch, key)
        return jnp.where(batch.mask.all(), value, jnp.nan), carry, metrics

    NextToken.batch, NextToken.loss = batch, loss


if __name__ == "__main__":
    told = json.loads(sys.argv.pop(1))
    sys.path.insert(0, str(Path.cwd()))
    if told["poison"]:
        poison(told["poison"])
    for each in told["blows"]:
        prepare(each, sys.argv[sys.argv.index("--run-dir") + 1])
    runpy.run_module(
        "experiments.language_model.train", run_name="__main__", alter_sys=True
    )
