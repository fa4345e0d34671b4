"""The commands of the experiments by short names.

    jaxrnn                                    what there is
    jaxrnn train char --data input.txt        a command of the language model
    jaxrnn sentiment train sst2 --data sst    a command of another experiment
    jaxrnn verify runs/char                   checks every checkpoint of a run
    jaxrnn results runs/*                     runs beside what is published
    jaxrnn report runs/char                   writes a page about a run

Each is the module of that name, run as `python -m` runs it.
"""

import ast
import runpy
import sys
from pathlib import Path

from jaxrnn.extras import require
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

FIRST = "language_model"  # whose commands need no name before them
OF_ANY_RUN = {
    "verify": "jaxrnn.training.verify",
    "report": "jaxrnn.report",
    "results": f"{__package__}.results",
}
MARK = '\nif __name__ == "__main__":\n'


def commands() -> dict[tuple[str, str], Path]:
    """The files of all commands, by experiment and name."""
    files = sorted(Path(__file__).parent.glob("*/*.py"))
    return {
        (file.parent.name, file.stem): file
        for file in files
        if MARK in file.read_text(encoding="utf-8")
    }


def find(words: list[str]) -> tuple[str, list[str]]:
    """The module that the first words name, and the words after them.

    Raises ValueError if there is none.
    """
    known = commands()
    if words[0] in OF_ANY_RUN:
        return OF_ANY_RUN[words[0]], words[1:]
    experiment = words[0].replace("-", "_")
    if (FIRST, experiment) in known:
        return f"{__package__}.{FIRST}.{experiment}", words[1:]
    own = [name for place, name in known if place == experiment]
    if not own:
        places = ", ".join(dict.fromkeys(place for place, _ in known))
        first = ", ".join(name for place, name in known if place == FIRST)
        of_any = ", ".join(OF_ANY_RUN)
        raise ValueError(f"no {words[0]!r} among {places}, nor among {first}, {of_any}")
    name = words[1].replace("-", "_") if len(words) > 1 else ""
    if name not in own:
        raise ValueError(f"{words[0]} needs one of {', '.join(own)}, got {name!r}")
    return f"{__package__}.{experiment}.{name}", words[2:]


def overview() -> str:
    """A line a command, as its file tells it."""
    lines = []
    for (place, name), file in commands().items():
        told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        sentence = " ".join(told.partition("\n\n")[0].split())
        words = (name if place == FIRST else f"{place} {name}").replace("_", "-")
        line = f"  jaxrnn {words:22} {sentence}"
        lines.append(line[:76] + "..." * (len(line) > 76))
    return "\n".join([(__doc__ or "").rstrip(), "", *lines])


def main() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    with refusals():
        require("tyro", "experiments")
        module, rest = find(words)
    sys.argv[1:] = rest
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def script() -> None:
    """What the command `jaxrnn` calls."""
    terminal.run(main)


if __name__ == "__main__":
    script()
