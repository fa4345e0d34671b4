"""How a command is run, and what it prints, whatever it prints to.

A terminal or pipe that cannot show a character shows "?" in its place; one that nobody
reads any more, as in `... | head -1`, ends the command without a traceback.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator

from jaxrnn.training.run.programs import keep_programs

UNREAD = 128 + 13  # as a shell tells of a program that SIGPIPE ended


def run(main: Callable[[], int | None]) -> None:
    """Calls a command's `main` and exits with the code that it returns."""
    _prepare()
    _name_as_called()
    keep_programs()
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        speak_to_nobody()
        code = UNREAD
    sys.exit(code)


def speak_to_nobody() -> None:
    """Drops what is printed from here on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def input_lines() -> Iterator[str]:
    """The lines of standard input as they come, in UTF-8 and without their ends; what is no
    character is replaced."""
    if sys.stdin is None:  # closed by whoever started the command
        return
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def as_bytes(argument: str) -> bytes:
    """An argument as it was typed, in UTF-8: Python keeps the bytes that are no character
    in this locale as surrogates."""
    return argument.encode("utf-8", "surrogateescape")


def as_text(argument: str) -> str:
    """The same as characters; what is none is replaced."""
    return as_bytes(argument).decode("utf-8", "replace")


def _prepare() -> None:
    codecs.register_error("jaxrnn.shown", _shown)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
            stream.reconfigure(errors="jaxrnn.shown")


def _name_as_called() -> None:
    """Has the usage name a module as `python -m` does, not by the path of its file."""
    spec = sys.modules["__main__"].__spec__
    if spec is not None and spec.name != "__main__":
        sys.argv[0] = f"python -m {spec.name.removesuffix('.__main__')}"


_FAILING = ("strict", "surrogateescape")


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """A byte of an argument or a file's name that is no character goes out as it came."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return "?", error.end
