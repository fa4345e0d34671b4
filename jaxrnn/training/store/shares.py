"""What each of several processes writes of a step: its parts of what none has whole.

A share is a folder. A database of TensorStore in it holds each part as an array of its own;
the file PARTS, written last, tells what they are. Orbax, which writes the rest, would have
the processes wait for each other, and so for one that has failed.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore as ts

from jaxrnn.training.leaves import Leaf
from jaxrnn.training.paths import plainly_named
from jaxrnn.training.store.digest import digest_leaf
from jaxrnn.training.store.host_copies import CutLeaf, Part
from jaxrnn.training.store.saved_array import database, part_name

PARTS = "parts.json"


def write_share(folder: Path, leaves: Mapping[str, CutLeaf]) -> None:
    """Writes this process' share of a step into `folder`."""
    folder.mkdir(parents=True)
    told = {}
    with plainly_named(folder) as plain:
        for path, leaf in leaves.items():
            for part in leaf.parts:
                write_part(plain, part_name(path, part.at), part.data)
            told[path] = {
                "dtype": leaf.dtype,
                "shape": leaf.shape,
                "parts": [describe_part(leaf.dtype, part) for part in leaf.parts],
            }
    written = folder / f"{PARTS}.tmp"
    written.write_text(json.dumps(told))
    written.replace(folder / PARTS)


def write_part(folder: Path, name: str, data: np.ndarray) -> None:
    # Trained numbers hardly compress.
    array = ts.open(
        {
            "driver": "zarr",
            "kvstore": database(folder, name),
            "metadata": {"compressor": None},
        },
        create=True,
        dtype=data.dtype,
        shape=data.shape,
        chunk_layout=ts.ChunkLayout(chunk_shape=data.shape or None),
    ).result()
    array.write(data, can_reference_source_data_indefinitely=True).result()


def describe_part(dtype: str, part: Part) -> dict[str, Any]:
    return {
        "at": part.at,
        "share": jax.process_index(),
        "sha256": digest_leaf(Leaf(dtype, part.data)),
    }


def described(shares: Path) -> dict[str, Any]:
    """The leaves that the shares in a folder come to.

    Raises ValueError if they lack a part of one.
    """
    leaves: dict[str, Any] = {}
    for told in sorted(shares.glob(f"*/{PARTS}")):
        for path, about in json.loads(told.read_text()).items():
            leaves.setdefault(path, about | {"parts": []})["parts"] += about["parts"]
    for path, about in leaves.items():
        sizes = (math.prod(b - a for a, b in part["at"]) for part in about["parts"])
        if sum(sizes) != math.prod(about["shape"]):
            raise ValueError(f"no process has written some parts of {path}")
    return leaves
