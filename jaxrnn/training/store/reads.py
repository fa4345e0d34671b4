"""What a failed read says: that the bytes are damaged, or only that it failed just now."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

# Seconds between the attempts to read.
NAPS = (0.05, 0.2, 0.5, 1.0)


class Damaged(ValueError):
    """What lies on the disk is not what was saved."""


class Unreadable(OSError):
    """What lies on the disk cannot be read, which says nothing against it."""


def patiently(read: Callable[[], Result]) -> Result:
    """What `read` gives, tried again after short naps.

    A stale handle, too many open files or no permission may pass: such an OSError is
    raised after the last attempt. Damaged is raised once it is found twice, since the
    first look may have fallen into a change that another process makes. FileNotFoundError,
    for what is gone as a whole, is raised at once.
    """
    failure: OSError | None = None
    suspected = False
    for nap in (0.0, *NAPS):
        time.sleep(nap)
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError as error:
            failure = error
        except Damaged as error:
            if suspected:
                raise
            suspected, failure = True, Unreadable(str(error))
    assert failure is not None
    raise failure


def is_there(path: Path) -> bool:
    """Whether there is anything at `path`; raises OSError where that cannot be said."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    # Some thousand characters of TensorStore's options.
    line = line.partition(" [tensorstore_spec=")[0]
    if len(line) > 300:
        # The system's reason comes last.
        line = f"{line[:140]} ... {line[-140:]}"
    return f"{type(error).__name__}: {line}"
