"""Several processes training one model: finding each other, and deciding alike."""

import os
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


def connect() -> None:
    """Makes this process one of several, before anything else is asked of JAX."""
    names = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    numbers = [int(os.environ[name]) if name in os.environ else None for name in names]
    jax.distributed.initialize(num_processes=numbers[0], process_id=numbers[1])


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


class FirstProcessFailed(ValueError):
    """The first process cannot go on, and says why."""


def first_only(act: Callable[[], object]) -> None:
    """Has the first process alone do `act`; raises in all of them where it raised there."""
    refusal = None
    if is_first():
        try:
            act()
        except Exception as error:
            refusal = error
    refused = highest(refusal is not None)
    if refusal is not None:
        raise refusal
    if refused:
        raise FirstProcessFailed("the first process cannot go on; it says why")
