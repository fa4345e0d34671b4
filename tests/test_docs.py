"""What the documents say is so."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

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


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_first_example_of_the_readme_runs():
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope = {"xs": jnp.ones((3, 2, 64)), "x": jnp.ones((2, 64)), "loss": jnp.sum}
    exec(example, scope)
    assert scope["ys"].shape == (3, 2, 256)
    assert jax.tree.structure(scope["grads"]) == jax.tree.structure(scope["params"])


def test_every_file_that_the_readme_links_exists():
    for document in (
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("experiments/*.md"),
    ):
        for link in re.findall(r"\]\(([^):]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links {link}"
