"""Docstrings that are plain text, for a generator of pages that reads reStructuredText.

A paragraph stays one. What is set in is shown as it stands, such as an equation. Lines
that begin with a name, and whose continuations are set in, are a list. What stands between
backticks is code.
"""

import inspect
import re
from typing import Any

ENTRY = re.compile(r"[A-Za-z_`\"'(][^:]{0,60}: ")
CODE = re.compile(r"`+([^`]+)`+")


def as_rest(lines: list[str]) -> list[str]:
    """The lines of a docstring, which begin at the margin, as reStructuredText."""
    rest: list[str] = []
    shown = False  # whether what came last is shown as it stands
    for block in _blocks(lines):
        if all(line.startswith(" ") for line in block):
            rest += [] if shown else ["::", ""]
            shown = True
            rest += [*block, ""]
            continue
        shown = False
        for paragraph in _paragraphs(block):
            rest += [*paragraph, ""]
    return rest


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list) -> None:
    """Makes every docstring reStructuredText, and shows the fields of a NamedTuple."""
    if not (isinstance(thing, type) and hasattr(thing, "_fields")):
        lines[:] = as_rest(lines)
        return
    # Python gives a NamedTuple without a docstring one that only lists its fields.
    own = [] if lines and lines[0].startswith(f"{thing.__name__}(") else lines
    lines[:] = [*as_rest(own), "::", "", *_fields_of(thing), ""]


def _blocks(lines: list[str]) -> list[list[str]]:
    """What blank lines divide."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.rstrip())
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _paragraphs(block: list[str]) -> list[list[str]]:
    """One paragraph, or the entries of a list."""
    margin = [line for line in block if not line.startswith(" ")]
    if len(block) == 1 or not all(map(ENTRY.match, margin)):
        return [[_inline(line.strip()) for line in block]]
    entries: list[list[str]] = []
    for line in block:
        if line.startswith(" "):
            entries[-1].append(f"  {_inline(line.strip())}")
        else:
            entries.append([f"* {_inline(line)}"])
    return entries


def _inline(line: str) -> str:
    """Code between double backticks; elsewhere nothing has a meaning of its own."""
    parts = CODE.split(line)  # text and code in turn
    plain = [re.sub(r"([*|\\_`])", r"\\\1", text) for text in parts[::2]]
    for number, code in enumerate(parts[1::2], 1):
        before, after = plain[number - 1], plain[number]
        left, right = ("\\ " if text.isalnum() else "" for text in (before[-1:], after[:1]))
        plain[number] = f"{left}``{code.strip()}``{right}{after}"
    return "".join(plain)


def _fields_of(kind: type) -> list[str]:
    """The fields of a NamedTuple with their comments, as they stand in its source."""
    body = inspect.getsource(kind).partition("(NamedTuple")[2].partition(":\n")[2]
    body = re.sub(r'^    """.*?"""\n', "", body, flags=re.DOTALL)
    fields = body.partition("\n    def ")[0].partition("\n    @")[0]
    return fields.rstrip().split("\n")
