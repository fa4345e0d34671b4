"""What the probes of a GPU share: compiling in threads, timing, comparing.

Probes run side by side. They compile together, and each times its programs `alone`: a lock
on the file that GPU_CHECK_LOCK names is shared by those that compile and held by the one
that times.
"""

import contextlib
import fcntl
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def locked(kind: int) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        if path := os.environ.get("GPU_CHECK_LOCK"):
            fcntl.flock(held.enter_context(open(path)), kind)
        yield


@contextlib.contextmanager
def alone(seconds: float = 40) -> Iterator[None]:
    """No other probe compiles or times meanwhile; what hangs so long ends its process."""
    with locked(fcntl.LOCK_EX):
        watch = threading.Timer(seconds, os._exit, (75,))
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()


def compile_all(
    lowered: Mapping[Any, Callable[[], Any]], threads: int = 16
) -> dict[Any, Any]:
    """Each program compiled, side by side; an Exception in place of one that failed.

    A value is called in this thread and gives what `jax.jit(f).lower(...)` gives.
    """

    def compiled(program: Any) -> Any:
        if isinstance(program, Exception):
            return program
        try:
            return program.compile()
        except Exception as error:
            return error

    def traced(lower: Callable[[], Any]) -> Any:
        try:
            return lower()
        except Exception as error:
            return error

    with locked(fcntl.LOCK_SH), ThreadPoolExecutor(threads) as pool:
        futures = {
            name: pool.submit(compiled, traced(lower)) for name, lower in lowered.items()
        }
        return {name: future.result() for name, future in futures.items()}


def milliseconds(program: Callable[[], Any], warm: int = 3, counted: int = 9) -> float:
    """The median time of `program`, which waits for its own result.

    XLA records a command buffer at the second run: the first three are not counted.
    """
    times = []
    for number in range(warm + counted):
        began = time.perf_counter()
        program()
        if number >= warm:
            times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def waited(program: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*arguments))


def distance(got: Any, want: Any) -> float:
    """The largest ||got - want|| / ||want|| over the leaves of two trees; inf for a NaN."""
    largest = 0.0
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = (np.asarray(x).astype(np.complex128) for x in (a, b))
        error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-6)
        largest = max(largest, float(error) if np.isfinite(error) else float("inf"))
    return largest
