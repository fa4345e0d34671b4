"""A language model as plain files: numbers under dotted names, and what they make up."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from jaxrnn.extras import require
from jaxrnn.models.cells import make_layers
from jaxrnn.models.language_model import LanguageModel
from jaxrnn.models.pure import Pure

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# What `make_language_model` takes, and config.json holds.
OPTIONS = (
    "vocabulary_size",
    "embedding_size",
    "cell",
    "layers",
    "hidden_size",
    "tied",
    "precision",
)


def load_language_model(folder: str | os.PathLike[str]) -> LanguageModel:
    """The model that `experiments.language_model.export` wrote into `folder`.

    Raises ValueError if the files are not those of one, ImportError without the library
    `safetensors`, which the extra `export` brings.
    """
    require("safetensors", "export")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        pure = make_language_model(**{name: config[name] for name in OPTIONS})
        arrays = load_file(folder / WEIGHTS)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no exported model: {error}") from error
    want = named(pure.like)
    for name in want.keys() | arrays.keys():
        if name not in want or name not in arrays or arrays[name].shape != want[name].shape:
            raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: {name}")
    return pure(from_named(pure.like, arrays))


def make_language_model(
    vocabulary_size: int,
    embedding_size: int,
    cell: str,
    layers: int,
    hidden_size: int,
    tied: bool,
    precision: Any,
) -> Pure[LanguageModel]:
    """Without dropout, which is for training."""
    cells = make_layers(cell, layers, embedding_size, hidden_size, precision=precision)
    return Pure(
        lambda key: LanguageModel(
            vocabulary_size,
            embedding_size,
            cells,
            tied=tied,
            precision=precision,
            rngs=nnx.Rngs(params=key),
        )
    )


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by plain dotted names, such as `layers.0.w_x` and `0.h`."""
    return {_dotted(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def from_named(like: Any, leaves: dict[str, Array] | dict[str, np.ndarray]) -> Any:
    """The tree like `like` of leaves by their names."""
    return jax.tree.map_with_path(lambda path, _: leaves[_dotted(path)], like)


def _dotted(path: Any) -> str:
    words = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join(word for word in words if word not in ("params", "value"))
