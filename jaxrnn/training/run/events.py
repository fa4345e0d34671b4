"""The numbers of `metrics.jsonl` as event files, which TensorBoard shows."""

import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxrnn.extras import require


class EventLog:
    """Writes rows into a folder that TensorBoard reads; every start of a run adds a file.

    A file begins with the step from which TensorBoard is to forget what those before it
    hold, so that it shows each step once. Names begin with the number of the start, since
    TensorBoard reads files in the order of their names.

    Raises ImportError where tensorboardX is missing, which the extra "tensorboard" brings.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboardX", "tensorboard")
        self.folder = folder
        self._writer: Any = None
        self._event: Any = None  # what makes one

    def begin(self, rows: Iterable[dict[str, Any]], first: int) -> None:
        """A new file, to go on after `rows`, of which those from step `first` on are not in
        the files that are there, nor are any others where there is no file."""
        from tensorboardX.event_file_writer import EventsWriter

        self.close()
        self._event = import_module("tensorboardX.proto.event_pb2").Event
        self.folder.mkdir(exist_ok=True)
        starts = len(list(self.folder.glob("*.tfevents.*")))
        first = first if starts else 0
        self._writer = EventsWriter(str(self.folder / f"{starts + 1:04d}"))
        event = self._event(step=first, wall_time=time.time())
        event.session_log.status = event.session_log.START
        self._writer.write_event(event)
        self.write(row for row in rows if row["step"] >= first)

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """All numbers of the rows; texts and what is None are left out."""
        for row in rows:
            event = self._event(step=row["step"], wall_time=time.time())
            for name, number in row.items():
                if name != "step" and isinstance(number, int | float):
                    event.summary.value.add(tag=as_tag(name), simple_value=number)
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def as_tag(name: str) -> str:
    """TensorBoard puts side by side what has the same word before the stroke."""
    measured = name.removeprefix("valid_")
    return f"train/{name}" if measured == name else f"valid/{measured}"


def make_events(log_to: str | None, folder: Path) -> EventLog | None:
    """Raises ImportError as `EventLog`."""
    return None if log_to is None else EventLog(folder)
