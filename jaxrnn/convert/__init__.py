"""Weights that come from other frameworks and go back, one framework a file.

    recurrence, params = from_X(...)         what X computes, as a jaxrnn recurrence
    ... = to_X(recurrence, params)           the same numbers, laid out as X keeps them

What cannot be converted exactly is refused with a ValueError that says why. No pickle
is ever read, and no framework is imported before one of its objects must be built.
"""

from jaxrnn.convert.cudnn import from_cudnn as from_cudnn, to_cudnn as to_cudnn
from jaxrnn.convert.equinox import from_equinox as from_equinox, to_equinox as to_equinox
from jaxrnn.convert.haiku import from_haiku as from_haiku, to_haiku as to_haiku
from jaxrnn.convert.keras import from_keras as from_keras, to_keras as to_keras
from jaxrnn.convert.linen import from_linen as from_linen, to_linen as to_linen
from jaxrnn.convert.nnx import from_nnx as from_nnx, to_nnx as to_nnx
from jaxrnn.convert.onnx import from_onnx as from_onnx
from jaxrnn.convert.onnx_writer import to_onnx as to_onnx
from jaxrnn.convert.torch import from_torch as from_torch, to_torch as to_torch

# Without it, `import *` would bring the submodules too: a `torch` that is not PyTorch.
__all__ = [
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "from_torch",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_onnx",
    "to_torch",
]
