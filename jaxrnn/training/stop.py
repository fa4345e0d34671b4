"""Stopping in good order when the machine or the user asks for it."""

import os
import signal
from types import FrameType

from jaxrnn.training.processes import alone, highest


class StopRequest:
    """Remembers the first SIGINT or SIGTERM, so that the loop can finish its step.

    A context manager. `signal` is None until a signal comes. The second signal ends the
    process at once: what is on disk is complete at every moment.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def agreed(self, now: bool) -> bool:
        """Whether to stop; several processes tell each other where `now` is True.

        All of them must then call it at the same step, and stop there together.
        """
        if alone():
            return self.signal is not None
        number = highest(self.signal or 0) if now else 0
        if number:
            self.signal = signal.Signals(number)
        return number > 0

    def __enter__(self) -> "StopRequest":
        self._former = {
            number: signal.signal(number, self._remember)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)
