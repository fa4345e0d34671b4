"""What the documents say is so."""

import re
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from recurrences import RECURRENCES

import jaxrnn

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
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("document", ["README.md", "docs/cells.md"])
def test_the_python_of_a_document_runs_as_pasted(document):
    scope = {}
    for block in (ROOT / document).read_text().split("```python\n")[1:]:
        code = block.split("```")[0]
        if "import torch" in code and not find_spec("torch"):
            continue
        exec(code, scope)
    assert scope["ys"].shape[:2] == (35, 20)


def test_every_file_that_the_readme_links_exists():
    for document in (
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("experiments/*.md"),
    ):
        for link in re.findall(r"\]\(([^):]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links {link}"
