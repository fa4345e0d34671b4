"""A trained run, opened by one line wherever it lies."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxrnn.training.run.opened import Opened


def load(
    run_dir: str | os.PathLike[str], *, step: Literal["best", "latest"] = "best"
) -> "Opened":
    """The run in a folder, to be used: its `model`, what the model reads, and itself to be
    called.

        write = jaxrnn.load("runs/char")
        write("ROMEO:", 200)             a text that goes on from there
        write.model, write.tokenizer     a Flax NNX module, and what gives it numbers

    Printed, it tells how to call it. Of the checkpoint only the parameters are read: those
    of the "best" step, or of the newest before a first evaluation, or of the "latest".

    Raises ValueError if there is no run with a checkpoint, or nothing here opens it: a
    run names the class that does, a subclass of `jaxrnn.training.Opened`.
    """
    from jaxrnn.training.run.opened import open_run

    return open_run(Path(run_dir), step)
