"""How the site is built: `make docs`."""

import inspect
import os
import re
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the two beside this file

import notebooks
import plain_docstrings
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

import jaxrnn

project = "jaxrnn"
version = release = jaxrnn.__version__
html_title = f"jaxrnn {version}"

extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_toc_level": 2,
    "navbar_persistent": [],
    "use_download_button": False,
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# The pages of notebooks.py, each in a folder of its own.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 240
nb_merge_streams = True  # what a cell prints is one text, however often it was flushed

linkcheck_timeout = 20
linkcheck_retries = 3
linkcheck_rate_limit_timeout = 60.0

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False  # what all recurrences have is told once
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# References to our own names are held to what there is; those to other libraries are not.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!jaxrnn\.).*")]

# What the site has as a page of another name, from wherever it is linked.
DOCS = Path(__file__).parent
ELSEWHERE = {
    "CONTRIBUTING.md": "/contributing.md",
    "experiments/README.md": "/results.md",
    "experiments/speed/README.md": "/speed.md",
} | {
    f"experiments/{page.stem}/README.md": f"/results/{page.name}"
    for page in DOCS.glob("results/*.md")
}


def link_within(folder, text):
    """Links of a page in `folder` to files which the site has as pages."""

    def link(found):
        file = os.path.relpath(folder / found[1], DOCS.parent)
        return f"]({ELSEWHERE.get(file, found[1])})"

    return re.sub(r"\]\(([^)#:]+\.md)\)", link, text)


def link_page(app, docname, source):
    source[0] = link_within((DOCS / docname).parent, source[0])


def link_included(app, path, docname, source):
    source[0] = link_within((DOCS / path).parent, source[0])


def by_public_name(app, env, node, contnode):
    """A type is written with the module that defines it; it is documented where it is
    exported. What is not, such as a TypeVar or a base class, stays a plain name."""
    if node["refdomain"] != "py" or not node["reftarget"].startswith("jaxrnn."):
        return None
    thing = named(node["reftarget"])
    name = node["reftarget"].rpartition(".")[2]
    for public, entry in env.get_domain("py").objects.items():
        if public.rpartition(".")[2] == name and named(public) is thing is not None:
            to = node["refdoc"], entry.docname, entry.node_id
            return make_refnode(app.builder, *to, contnode, public)
    return None if thing is None else contnode


def named(path):
    """What the dotted name of a module's own stands for; None if there is no such."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:  # the name of a class's own
        return None


def own_signature(app, what, name, thing, options, signature, returns):
    """Of a Flax module that of its `__init__`, which NNX's metaclass hides."""
    if what != "class" or signature != "(*args: Any, **kwargs: Any)":
        return None
    shown = inspect.signature(thing.__init__)
    shown = shown.replace(parameters=list(shown.parameters.values())[1:])
    return stringify_signature(shown, unqualified_typehints=True), returns


def pass_over_fields(app, what, name, thing, skip, options):
    """A NamedTuple's fields are shown together, as they stand in its source."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app):
    app.connect("missing-reference", by_public_name)
    app.connect("source-read", link_page)
    app.connect("include-read", link_included)
    notebooks.setup(app)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("autodoc-skip-member", pass_over_fields)
    app.connect("autodoc-process-docstring", plain_docstrings.process)
