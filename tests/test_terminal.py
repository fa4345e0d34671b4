"""What commands print, to terminals and pipes of every kind."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.progress import Progress

TYPED = "Größe – 日本 caf\udce9"  # the last letter is a byte that is no UTF-8


def printed(monkeypatch, encoding, errors, main):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as end:
        terminal.run(main)
    return end.value.code, stream.buffer.getvalue()


@pytest.mark.parametrize(
    "encoding, errors, shown",
    [
        ("ascii", "strict", b"Gr??e ? ?? caf\xe9\n"),
        ("ascii", "surrogateescape", b"Gr??e ? ?? caf\xe9\n"),
        ("cp1252", "strict", b"Gr\xf6\xdfe \x96 ?? caf\xe9\n"),
        ("utf-8", "strict", "Größe – 日本 caf".encode() + b"\xe9\n"),
        ("ascii", "ignore", b"Gre   caf\n"),  # asked for: PYTHONIOENCODING=ascii:ignore
    ],
)
def test_what_cannot_be_shown_is_replaced(monkeypatch, encoding, errors, shown):
    assert printed(monkeypatch, encoding, errors, lambda: print(TYPED)) == (None, shown)


def test_a_command_ends_with_its_own_code(monkeypatch):
    def refuse():
        print("so far")
        with refusals():
            raise ValueError("no")

    assert printed(monkeypatch, "ascii", "strict", lambda: 1) == (1, b"")
    assert printed(monkeypatch, "ascii", "strict", refuse) == (2, b"so far\n")


@contextmanager
def unread(monkeypatch):
    """Standard output that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        yield
        assert sys.stderr.getvalue() == ""


def a_little():
    print("a line")  # is still in the buffer at the end


def a_lot_within_refusals():
    with refusals():
        for _ in range(10_000):
            print("a line")


@pytest.mark.parametrize("main", [a_little, a_lot_within_refusals])
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(monkeypatch, main):
    with unread(monkeypatch), pytest.raises(SystemExit) as end:
        terminal.run(main)
    assert end.value.code == 141


def test_training_goes_on_where_nobody_reads_its_lines(monkeypatch):
    def train():
        with Progress(2, 0, 1, "nats/byte") as progress:
            for step in (1, 2):
                progress.training(step, 1.0, 0.1)
        a_little()

    with unread(monkeypatch), pytest.raises(SystemExit) as end:
        terminal.run(train)
    assert end.value.code is None


def test_a_command_without_any_output_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as end:
        terminal.run(lambda: print("into the void"))
    assert end.value.code is None
    sys.stdout.close()
    sys.stderr.close()


def test_an_argument_is_what_was_typed_in_any_locale():
    assert terminal.as_bytes("é") == terminal.as_bytes("\udcc3\udca9") == "é".encode()
    assert terminal.as_text("\udcc3\udca9 \udcff") == "é \ufffd"
    assert terminal.as_bytes("\udcff") == b"\xff"


@pytest.mark.parametrize("module", ["experiments.results", "jaxrnn.report"])
def test_the_usage_names_a_module_as_it_is_called(module):
    command = [sys.executable, "-m", module, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"usage: python -m {module} ")
