"""Pages that the site shows with what their Python prints, each to be had as a notebook."""

from os.path import relpath
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference

PAGES = "tutorial", "howto/lengths", "howto/streaming", "howto/gaps"

HEAD = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""


def is_notebook(app, docname):
    """Whether the page is run; to look up its links it is not."""
    return docname in PAGES and app.builder.format == "html"


def as_notebook(app, docname, source):
    """The page's Python as cells, which MyST-NB runs; an error there ends the build."""
    if is_notebook(app, docname):
        cells = source[0].replace("```python\n", "```{code-cell}\n")
        source[0] = HEAD + cells


def offer(app, doctree):
    """A link to the notebook below the page's title."""
    docname = app.env.docname
    if not is_notebook(app, docname):
        return
    notebook = Path(app.env.mystnb_config.output_folder, f"{docname}.ipynb")
    link = download_reference(reftarget=f"/{relpath(notebook, app.srcdir)}")
    link += nodes.Text("a notebook")
    offered = nodes.paragraph("", "This page as ", link, nodes.Text("."))
    next(doctree.findall(nodes.title)).parent.insert(1, offered)


def setup(app):
    app.connect("source-read", as_notebook)
    app.connect("doctree-read", offer, priority=400)  # before the files are gathered
