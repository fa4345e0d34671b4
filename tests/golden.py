"""Writes tests/golden/parameters.json: the names and shapes of every recurrence's
parameters. They are a promise to whoever has saved some.

PYTHONPATH=. python tests/golden.py
"""

import json
from pathlib import Path

import jax
from recurrences import RECURRENCES

from jaxrnn import Recurrence

FILE = Path(__file__).parent / "golden" / "parameters.json"


def parameter_shapes(recurrence: Recurrence) -> dict[str, list[int]]:
    params = jax.eval_shape(recurrence.init, jax.random.key(0))
    return {
        jax.tree_util.keystr(path): list(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(params)
    }


if __name__ == "__main__":
    shapes = {repr(recurrence): parameter_shapes(recurrence) for recurrence in RECURRENCES}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(shapes, indent=2) + "\n")
