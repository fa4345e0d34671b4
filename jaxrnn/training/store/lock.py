"""One writer per run directory."""

import json
import os
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from jaxrnn.training.paths import whole_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Signal 0 asks whether a process lives; on Windows it would interrupt it.
ASKS_BY_KILL = os.name == "posix"

# The locks that this process holds.
HELD: set[Path] = set()


class RunLocked(ValueError):
    """Another live process writes to the run directory."""


class RunLock:
    """Holds `run_dir` for this process: `with RunLock(run_dir): train(...)`.

    The lock is the operating system's (flock) on `lock.json`, so it falls with the
    process that held it, however that ended. The file tells who holds it: pid, host and
    start. Where the system or the file system has no such locks, the file itself is the
    lock: a process of this host that is named in it holds it unless it is known to have
    ended. Raises RunLocked if another process, or this one, holds it already.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self.path = whole_path(run_dir) / "lock.json"
        self._file: IO[str] | None = None

    def __enter__(self) -> "RunLock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            self._take(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        HELD.add(self.path)
        return self

    def __exit__(self, *exception: object) -> None:
        # The file stays: a process that opened it meanwhile must not end up with a lock
        # on a file that is no longer there.
        if self._file is not None:
            HELD.discard(self.path)
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _take(self, file: IO[str]) -> None:
        if self.path in HELD:
            raise RunLocked(self._refusal(read_holder(file)))
        try:
            if fcntl is None:
                raise OSError("this system has no flock")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLocked(self._refusal(read_holder(file))) from None
        except OSError:
            self._take_by_name(file)
        else:
            write_holder(file)

    def _take_by_name(self, file: IO[str]) -> None:
        """Where nothing but the name in the file tells who holds it."""
        holder = read_holder(file)
        if may_live(holder):
            raise RunLocked(
                f"{self._refusal(holder)} (there are no locks here: if that process has "
                f"ended, remove {self.path})"
            )
        mine = write_holder(file)
        # Of two that came at the same moment, the one that wrote last.
        time.sleep(0.1)
        if (holder := read_holder(file)) != mine:
            raise RunLocked(self._refusal(holder))

    def _refusal(self, holder: dict[str, Any]) -> str:
        if not holder:
            return f"{self.path.parent} is being written to by another process"
        return (
            f"{self.path.parent} is being written to by process {holder['pid']} on "
            f"{holder['host']} since {holder['started']}"
        )


def read_holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return {name: holder[name] for name in ("pid", "host", "started")}
    except (ValueError, KeyError, TypeError):
        # Empty after an orderly end, or about to be written.
        return {}


def write_holder(file: IO[str]) -> dict[str, Any]:
    """Names this process in the file."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    file.truncate(0)
    file.write(json.dumps(holder) + "\n")
    file.flush()
    return holder


def may_live(holder: dict[str, Any]) -> bool:
    """Whether it is a process of this host that is not known to have ended."""
    if not holder or holder["host"] != socket.gethostname():
        return False
    # The name was left by an earlier process that had the number of this one.
    if holder["pid"] == os.getpid():
        return False
    if not ASKS_BY_KILL:
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def held_for_a_change(run_dir: Path) -> AbstractContextManager[object]:
    """The lock of the run at `run_dir`: as this process holds it, or taken for a moment.

    Raises RunLocked if another process holds it.
    """
    held = RunLock(run_dir)
    return nullcontext() if held.path in HELD else held
