"""What a way to run a cell over time is."""

import abc
from typing import Any, ClassVar

from jaxrnn.strategies.call import Call


class Strategy(abc.ABC):
    """A way to run a cell over time. Subclasses are frozen dataclasses, so that they
    print, compare and hash by value, and are static arguments of `jax.jit`.

    `platform` is the one that is compiled for, whichever the host is: "cpu", "gpu" or
    "tpu".
    """

    why: ClassVar[str]  # what speaks for it, after "because"

    def refusal(self, call: Call, platform: str) -> str | None:
        """Why it cannot serve the call there, after "cannot serve it:"; None if it can.

        Of the call's arrays it may look at shapes and dtypes only.
        """
        return None

    def drawback(self, call: Call, platform: str) -> str | None:
        """Why "auto" had better pass over it there, though it could serve; None if not."""
        return None

    @abc.abstractmethod
    def over_time(self, call: Call) -> tuple[Any, Any]:
        """The carry after the last step, as wide as `call.carry`, and ys `[T, ...]`, zero
        at masked steps.

        In value and gradient what `Scan` gives, adding up in float32 or wider over time.
        """
