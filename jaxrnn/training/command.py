"""The manners of a command line: a refusal is one sentence and exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusals() -> Iterator[None]:
    """Turns an error about what the user asked for into one sentence, without a traceback.

    That is a ValueError, or an OSError for a file or folder that cannot be used. Training
    itself stays outside: an error there is ours, not the user's.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
