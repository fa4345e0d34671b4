"""What the documents say is so."""

import re
import sys
from contextlib import redirect_stdout
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc, isclass, isroutine
from io import StringIO
from pathlib import Path
from pkgutil import iter_modules

import jax
import jax.numpy as jnp
import pytest
from recurrences import RECURRENCES

import jaxrnn
import jaxrnn.data

ROOT = Path(__file__).parent.parent
PUBLIC = [
    name
    for name, value in vars(jaxrnn).items()
    if isinstance(value, type)
    and issubclass(value, jaxrnn.Recurrence)
    and not value.__abstractmethods__
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_recurrence_is_in_the_table_of_cells(name):
    assert re.search(
        rf"^\| `{name}[`(]", (ROOT / "docs/cells.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=str)
def test_what_a_recurrence_takes_and_gives_has_a_public_name(recurrence):
    params = recurrence.init(jax.random.key(0))
    for tree in (params, recurrence.initial_carry(params)):
        for kind in kinds(tree) - {tuple}:
            assert getattr(jaxrnn, kind.__name__, None) is kind


def kinds(tree):
    """The types of the tuples in a tree."""
    if not isinstance(tree, tuple):
        return set()
    return {type(tree)}.union(*map(kinds, tree))


def test_what_a_linear_cell_must_return_has_a_public_name():
    cell = jaxrnn.MinGRU(3, 4)
    u = cell.project(cell.init(jax.random.key(0)), jnp.ones(3))
    assert isinstance(u, jaxrnn.Affine)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_citation_names_the_version():
    assert f"\nversion: {jaxrnn.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def pages():
    """The documents, by their path."""
    found = [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("experiments/**/*.md"),
    ]
    return [path.relative_to(ROOT).as_posix() for path in sorted(found)]


def python_of(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


# What docs/training.md shows are the examples, which test_examples.py runs.
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * ("/" in page))
        for page in pages()
        if python_of(page) and page != "docs/training.md"
    ],
)
def test_the_python_of_a_page_runs_as_pasted(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "pasted"}
    for block in python_of(page):
        wanted = re.findall(r"^(?:import|from) (torch|keras|haiku|equinox)\b", block, re.M)
        if not all(map(find_spec, wanted)):
            pytest.skip(f"{' and '.join(wanted)} not installed")
        with jax.numpy_dtype_promotion("standard"):  # as the reader has it
            exec(compile(block, page, "exec"), scope)
    if page in ("README.md", "docs/cells.md"):
        assert scope["ys"].shape[:2] == (35, 20)


@pytest.mark.parametrize("page", pages())
def test_every_file_that_a_page_links_exists(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    for link, heading in re.findall(r"\]\(([^):#]*)(?:#([^)]*))?\)", text):
        linked = (ROOT / page).parent / link if link else ROOT / page
        assert linked.exists(), f"{page} links {link}"
        if heading:
            assert heading in headings(linked), f"{page} links {link}#{heading}"


def headings(path):
    """Of a page, as links name them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for title in re.findall(r"^#+ (.*)$", text, re.M):
        yield re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def commands():
    """What the documents have people type, each with the page: python -m MODULE ..."""
    for page in pages():
        text = (ROOT / page).read_text().replace("\\\n", " ")
        for typed in re.findall(r"python -m ((?:experiments|jaxrnn)\.[^\n`#|]*)", text):
            yield page, typed.split()


@lru_cache
def help_of(module, *preset):
    """What a command says of itself."""
    if hasattr(import_module(module), "__path__"):  # a package, as python -m runs it
        module += ".__main__"
    shown = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        patch.setattr(sys, "argv", [module, *preset, "--help"])
        with pytest.raises(SystemExit):
            import_module(module).main()
    return shown.getvalue()


@pytest.mark.parametrize("module", sorted({typed[0] for _, typed in commands()}))
def test_the_commands_in_the_documents_are_there(module):
    for page, (named, *words) in commands():
        if named != module or "PRESET" in words:
            continue
        preset = words[:1] if module.endswith(".train") else []
        assert all(name in help_of(module) for name in preset), f"{page}: no {preset}"
        for option in re.findall(r"--[\w-]+", " ".join(words)):
            known = re.search(rf"{option}\b", help_of(module, *preset))
            assert known, f"{page}: {module} has no {option}"


SUBPACKAGES = "strategies flax convert online models training diagnostics testing".split()
DATA = [f"data.{module.name}" for module in iter_modules(jaxrnn.data.__path__)]


@pytest.mark.parametrize("module", ["jaxrnn", *(f"jaxrnn.{s}" for s in SUBPACKAGES + DATA)])
def test_every_public_name_is_in_the_reference(module):
    here = import_module(module)
    exports = hasattr(here, "__path__")  # a package has names from its modules
    public = {
        f"{module}.{name}"
        for name, value in vars(here).items()
        if (isclass(value) or isroutine(value)) and not name.startswith("_")
        if value.__module__.startswith("jaxrnn." if exports else module)
    }
    reference = "".join(p.read_text() for p in ROOT.glob("docs/reference/*.md"))
    told = set()
    if f".. automodule:: {module}\n```" in reference:  # all that has a docstring
        told = {f"{module}.{name}" for name, value in vars(here).items() if value.__doc__}
    for part in reference.split(".. currentmodule:: ")[1:]:
        current, _, rest = part.partition("\n")
        names = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)", rest, re.M)
        told |= {f"{current}.{name}" for name in names}
    assert public <= told, f"not in docs/reference: {', '.join(sorted(public - told))}"


def test_a_docstring_is_shown_as_it_was_written(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    written = """A sum over *all* of `x`, |x| and part_n(y).

        c' = f * c
        h = o_t

    rate: how much,
        of what.
    mask `[T]`: where."""
    shown = import_module("plain_docstrings").as_rest(cleandoc(written).split("\n"))
    assert shown == [
        r"A sum over \*all\* of ``x``, \|x\| and part\_n(y).",
        "",
        "::",
        "",
        "    c' = f * c",
        "    h = o_t",
        "",
        "* rate: how much,",
        "  of what.",
        "",
        "* mask ``[T]``: where.",
        "",
    ]
