"""Imports go one way: no room imports one above it, and nothing imports an experiment."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up: each may import those before it, and itself.
ROOMS = [
    "extras",
    "constants",
    "arrays",
    "entry",
    "cell",
    "linear",
    "strategies",
    "unroll",
    "cells",
    "compose",
    "connections",
    "wrappers",
    "",  # the public names
    "testing",
    "online",
    "flax",
    "convert",
    "diagnostics",
    "models",
    "training.paths",
    "training.processes",
    "data",
    "training.leaves",
    "training.store",
    "training",
    "training.run",
    "training.verify",
    "loading",
    "report",
]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "jaxrnn").rglob("*.py")
}


def room(module):
    """The number of the room that a module of jaxrnn belongs to."""
    name = module.removeprefix("jaxrnn").removeprefix(".")
    parts = name.split(".")
    prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return ROOMS.index(next(prefix for prefix in prefixes if prefix in ROOMS))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_nothing_from_above(module):
    if module in ("jaxrnn", "jaxrnn.training"):
        return  # the public names of all that lies in them
    for name in imported(MODULES[module]):
        assert name.partition(".")[0] != "experiments"
        if name in MODULES:
            assert room(name) <= room(module), f"{module} imports {name}"


def test_the_rooms_are_those_of_the_contributing_guide():
    told = (ROOT / "CONTRIBUTING.md").read_text()
    picture = re.search(r"```\n(extras.*?)```", told, re.DOTALL)
    assert picture is not None
    rooms = re.findall(r"[a-z_.]+", picture[1])
    assert rooms == [name for name in ROOMS if name]


def test_the_toolkit_is_light_to_import():
    script = "import sys, jaxrnn; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"flax", "optax", "orbax", "tensorstore", "matplotlib", "tqdm", "tyro"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in done.stdout.split())


def test_no_file_is_long():
    long = {
        path.name: lines
        for path in MODULES.values()
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long.keys() <= {"testing.py"}


def test_experiments_import_one_another_by_relative_names():
    """Installed, they lie within jaxrnn."""
    for path in (ROOT / "experiments").rglob("*.py"):
        names = {name.partition(".")[0] for name in map(str, imported(path))}
        assert "experiments" not in names, path
