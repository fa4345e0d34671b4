"""Stopping in good order when the machine or the user asks for it."""

import os
import select
import signal
from contextlib import suppress
from types import FrameType

from jaxrnn.training.processes import alone, highest

STDOUT, STDERR = 1, 2
ANSWER = (
    "{}: stopping after this step, the state saved; an evaluation is cut short, to be done "
    "when the run goes on. A second signal ends the process at once.\n"
)


class StopRequest:
    """Remembers the first SIGINT, SIGTERM or SIGHUP, so that the loop can finish its step.

    A context manager. `signal` is None until a signal comes, which is answered with a line
    on stderr. The second SIGINT or SIGTERM ends the process at once: what is on disk is
    complete at every moment. SIGHUP stays ignored where it was, as nohup has it.
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
            number: signal.signal(number, self._remember) for number in heeded()
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if received.name == "SIGHUP":
            let_go_of_lost_outputs()
        if self.signal is None:
            self.signal = received
            # Not by sys.stderr, which may have been interrupted in the middle of a line.
            with suppress(OSError):
                os.write(STDERR, ANSWER.format(received.name).encode())
        # A shell and the system may both send SIGHUP for one terminal that is closed.
        elif received.name != "SIGHUP":
            os._exit(128 + number)


def heeded() -> list[signal.Signals]:
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, hangup]


def let_go_of_lost_outputs() -> None:
    """Has what is written to a terminal or pipe that is gone go nowhere.

    Else the next line of progress would raise, before the state is saved.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (STDOUT, STDERR):
        poll = select.poll()
        poll.register(descriptor, 0)
        if poll.poll(0):  # which tells of hang-ups and errors only
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
