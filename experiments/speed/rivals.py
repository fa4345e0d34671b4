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


def compare(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each program over `rounds` rounds of all of them; each
    program must wait for its own result. One round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for counted in [False] + [True] * rounds:
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            if counted:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


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

    def seconds() -> float:
        began = time.perf_counter()
        program()
        return time.perf_counter() - began

    emit(first=seconds(), **about())
    for _ in sys.stdin:
        emit(seconds=seconds())


def in_turn(processes: Mapping[str, Process], rounds: int) -> dict[str, list[float]]:
    """The seconds of each process over `rounds` rounds of all of them, and then their
    end. One round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    try:
        for counted in [False] + [True] * rounds:
            for name, process in processes.items():
                taken = process.time()
                if counted:
                    seconds[name].append(taken)
    finally:
        for process in processes.values():
            process.end()
    return seconds


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
