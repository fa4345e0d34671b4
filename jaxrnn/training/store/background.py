"""Work in a thread beside training, whose outcome is told once."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any


class Background:
    """What a thread was given to do last, if anything."""

    def __init__(self) -> None:
        self._doing: Future[None] | None = None

    def begin(self, thread: Executor, act: Callable[..., None], *given: Any) -> None:
        self._doing = thread.submit(act, *given)

    def finish(self) -> None:
        """Returns when it is done, or raises what it raised."""
        if self._doing is None:
            return
        try:
            self._doing.result()
        finally:
            # Not when interrupted in the wait: its outcome is still to be told.
            if self._doing.done():
                self._doing = None


def give_way() -> None:
    """Lets this thread, and those it starts, run where training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with suppress(OSError):  # where that is not allowed, it competes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
