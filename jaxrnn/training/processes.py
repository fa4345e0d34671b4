"""Several processes training one model: finding each other, and deciding alike."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")


def connect() -> None:
    """Makes this process one of several, before anything else is asked of JAX."""
    names = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    numbers = [int(os.environ[name]) if name in os.environ else None for name in names]
    jax.distributed.initialize(num_processes=numbers[0], process_id=numbers[1])
    # Now, while all are there: at their first exchange the processes wait half a minute
    # for each other, and reading the data may take one of them longer.
    highest(0)


def alone() -> bool:
    return jax.process_count() == 1


def is_first() -> bool:
    """Whether this is the process that writes the run's files."""
    return jax.process_index() == 0


def highest(number: int) -> int:
    """The highest number that any process gives; all of them must call."""
    if alone():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


class ProcessFailed(ValueError):
    """One of several processes cannot go on, and says why."""


def together(act: Callable[[], Result]) -> Result:
    """What `act` gives in this process; all of them must call.

    Where it raised in one it raises in all, so that none waits for one that has gone.
    """
    result, failure = None, None
    try:
        result = act()
    except Exception as error:
        failure = error
    failed = highest(-1 if failure is None else jax.process_index())
    if failure is not None:
        raise failure
    if failed >= 0:
        raise ProcessFailed(f"process {failed} cannot go on; it says why")
    return cast(Result, result)


def first_only(act: Callable[[], object]) -> None:
    """Has the first process alone do `act`; raises in all of them where it raised there."""
    together(lambda: act() if is_first() else None)


def told_by_first(find: Callable[[], Sequence[int]]) -> list[int]:
    """The numbers that `find` gives in the first process, in all of them.

    What each found by itself, in a folder that changes, could differ.
    """
    found: list[int] = []
    first_only(lambda: found.extend(find()))
    if alone():
        return found
    told = np.zeros(highest(len(found)), np.int32)
    told[: len(found)] = found
    return multihost_utils.broadcast_one_to_all(told).tolist()
