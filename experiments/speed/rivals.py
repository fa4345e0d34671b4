"""Timing several programs in turn, so that a drifting machine treats them alike."""

import statistics
import time
from collections.abc import Callable


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
