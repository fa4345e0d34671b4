"""Writes a page about runs, to look at in any browser: how they learned, and what their
models do.

    python -m jaxrnn.report runs/char
    python -m jaxrnn.report runs/char --text "ROMEO:" --text "To be, or not to be"
    python -m jaxrnn.report runs/char runs/char-gru --out both.html
"""

import argparse
from pathlib import Path

from jaxrnn.report.page import write_report
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write a page about runs, to look at in any browser. It needs no "
        "server and no network; the folders of the runs are only read.",
    )
    parser.add_argument("run_dirs", metavar="RUN_DIR", type=Path, nargs="+")
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), help="the page (report.html)"
    )
    parser.add_argument(
        "--text",
        dest="texts",
        action="append",
        default=[],
        help="a text or sentence to look at the models with; several may be given, and "
        "without one some of the run's validation data serve",
    )
    options = parser.parse_args()
    with refusals():
        write_report(options.run_dirs, options.out, list(map(as_text, options.texts)))
    print(options.out)


if __name__ == "__main__":
    terminal.run(main)
