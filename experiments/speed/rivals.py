"""Timing several programs in turn, so that a drifting machine treats them alike."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .probes import PACKAGE, emit

# What has a package of its own.
PACKAGES = {
    "haiku": "dm-haiku",
    "equinox": "equinox",
    "keras": "keras",
    "torch.nn": "torch",
}


def installed(peer: str) -> bool:
    """Whether the library is; those without a package of their own come with ours."""
    try:
        version(PACKAGES.get(peer, "jax"))
    except PackageNotFoundError:
        return False
    return True


def timed(program: Callable[[], object]) -> Callable[[], float]:
    """Runs it, for the seconds that it takes; it must wait for its own result."""

    def seconds() -> float:
        began = time.perf_counter()
        program()
        return time.perf_counter() - began

    return seconds


def in_turn(
    clocks: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """The seconds of each over `rounds` rounds of all of them. One round before is not
    counted."""
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    for counted in [False] + [True] * rounds:
        for name, clock in clocks.items():
            taken = clock()
            if counted:
                seconds[name].append(taken)
    return seconds


def compare(programs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each program."""
    clocks = {name: timed(program) for name, program in programs.items()}
    return {name: statistics.median(s) for name, s in in_turn(clocks, rounds).items()}


def show(medians: dict[str, float], unit: str, figure: Callable[[float], float]) -> None:
    """Prints each median and its ratio to the first one's."""
    first = next(iter(medians.values()))
    for name, seconds in medians.items():
        print(f"{name:42s} {figure(seconds):12,.1f} {unit}   x {seconds / first:.2f}")


class Process:
    """A program in a process of its own, run and timed once for each `time()`: a module of
    this folder that ends in `answer`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.{module}", *arguments],
            env=os.environ | {"KERAS_BACKEND": "jax"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._read()

    def time(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()["seconds"]

    def end(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise OSError(f"{self._process.args} ended with {self._process.wait()}")


def answer(program: Callable[[], object], about: Callable[[], dict] = dict) -> None:
    """Tells how long the program took the first time, with what is to be told `about` it,
    and then its seconds for each line of standard input."""
    clock = timed(program)
    emit(first=clock(), **about())
    for _ in sys.stdin:
        emit(seconds=clock())


def processes_in_turn(
    processes: Mapping[str, Process], rounds: int
) -> dict[str, list[float]]:
    """`in_turn`, and then their end."""
    try:
        return in_turn({name: p.time for name, p in processes.items()}, rounds)
    finally:
        for process in processes.values():
            process.end()


def spread(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """The median and quartiles in ms, and the median of the ratios round by round."""
    if len(theirs) > 1:
        low, middle, high = statistics.quantiles(theirs, n=4, method="inclusive")
    else:
        low = middle = high = theirs[0]
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "ms": 1e3 * middle,
        "quartile, ms": 1e3 * low,
        "upper quartile, ms": 1e3 * high,
        "times ours": statistics.median(ratios),
    }
