"""One file that shows runs: no server, and nothing fetched when it is looked at."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jaxrnn
from jaxrnn.extras import require
from jaxrnn.loading import load
from jaxrnn.report import facts, learning
from jaxrnn.report.charts import library
from jaxrnn.report.markup import paragraph, text
from jaxrnn.report.record import Record, read_records
from jaxrnn.training.run.directory import write_text
from jaxrnn.training.run.opened import Section

# Whatever a page holds, a browser lets it reach nothing outside of itself.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
)


def write_report(run_dirs: Sequence[Path], out: Path, texts: Sequence[str] = ()) -> None:
    """Writes a page of HTML about the runs in these folders, side by side where that fits.

    texts: what to look at the models with; some of each run's own if there are none. The
    folders are read only, and a run may still train. What a model cannot be shown by is
    told in its place. Raises ValueError for no run, a folder without one, or a text that a
    model cannot read, ImportError without the libraries of the extra "report".
    """
    require("altair", "report")
    require("vl_convert", "report")
    if not run_dirs:
        raise ValueError("which run? none was given")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent} is no folder to write {out.name} into")
    records = read_records(run_dirs)
    page = whole(" and ".join(record.name for record in records), sections(records, texts))
    # A folder's name may hold bytes that are no character.
    write_text(out, page.encode("utf-8", "replace").decode())


def sections(records: Sequence[Record], texts: Sequence[str]) -> list[Section]:
    """All parts of the page, in their order; empty ones left out."""
    models = [section for record in records for section in of_model(record, texts)]
    every = [
        Section("Results", facts.results(records)),
        Section("Learning", learning.learning_curves(records)),
        Section("Samples", learning.samples(records)),
        *models,
        Section("Speed and memory", facts.speed_and_memory(records)),
        Section("Checkpoints", facts.checkpoints(records)),
        Section("Configuration", facts.configurations(records)),
        Section("Versions", facts.versions(records)),
    ]
    return [section for section in every if section.html]


def of_model(record: Record, texts: Sequence[str]) -> list[Section]:
    """What the run's own problem shows of its model, or why that cannot be.

    What goes wrong there is told in its place: it takes nothing from the rest of the page.
    But a text that the reader chose, and the model does not take, raises ValueError.
    """
    try:
        model = load(record.path)
    except Exception as error:
        return [left_out(record, error)]
    try:
        shown = model.sections(texts)
    except Exception as error:
        if texts and isinstance(error, ValueError):
            raise
        return [left_out(record, error)]
    return [section._replace(title=f"{record.name}: {section.title}") for section in shown]


def left_out(record: Record, error: Exception) -> Section:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ValueError | OSError | ImportError):
        reason = f"{type(error).__name__}: {reason}"
    print(f"of {record.name}, the model is left out: {reason}", file=sys.stderr)
    return Section(f"{record.name}: the model", paragraph(f"It is left out: {reason}"))


def whole(title: str, parts: Sequence[Section]) -> str:
    numbered = list(enumerate(parts, 1))
    links = "".join(
        f'<li><a href="#part-{number}">{text(part.title)}</a></li>\n'
        for number, part in numbered
    )
    bodies = "".join(
        f'<section id="part-{number}" aria-labelledby="title-{number}">\n'
        f'<h2 id="title-{number}">{text(part.title)}</h2>\n{part.html}</section>\n'
        for number, part in numbered
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}: report</title>
<style>
{beside("page.css")}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
<h1>{text(title)}</h1>
<nav aria-label="Parts of the report"><ul>
{links}</ul></nav>
</header>
<main id="content">
<noscript><p>Charts and coloured texts need JavaScript; the tables do not.</p></noscript>
{bodies}</main>
<footer><p>Written by jaxrnn {text(jaxrnn.__version__)}.</p></footer>
{library()}<script>
{beside("charts.js")}{beside("units.js")}</script>
</body>
</html>
"""


def beside(name: str) -> str:
    """A file that lies beside this one."""
    return files("jaxrnn.report").joinpath(name).read_text(encoding="utf-8")
