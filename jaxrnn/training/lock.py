"""One writer per run directory."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any


class RunLocked(ValueError):
    """Another live process writes to the run directory."""


class RunLock:
    """Holds `run_dir` for this process: `with RunLock(run_dir): train(...)`.

    The lock is the operating system's (flock) on `lock.json`, so it falls with the
    process that held it, however that ended. The file tells who holds it: pid, host and
    start. Where the file system has no locks, a live pid on this host decides. Raises
    RunLocked if another process, or this one, holds it already.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = Path(run_dir).absolute() / "lock.json"
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
        return self

    def __exit__(self, *exception: object) -> None:
        # The file stays: a process that opened it meanwhile must not end up with a lock
        # on a file that is no longer there.
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _take(self, file: IO[str]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLocked(self._refusal(read_holder(file))) from None
        except OSError:
            holder = read_holder(file)
            if lives_here(holder):
                raise RunLocked(self._refusal(holder)) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        file.truncate(0)
        file.write(json.dumps(holder) + "\n")
        file.flush()

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


def lives_here(holder: dict[str, Any]) -> bool:
    if not holder or holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
