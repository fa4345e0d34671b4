"""Writes a trained language model as files that need nothing of what trained it.

    python -m experiments.language_model.export runs/char --out char

`model.safetensors` and `config.json`; programs of JAX for CPU, CUDA and TPU; ONNX with the
runtime's own LSTM, GRU or RNN. `docs/deploy.md` shows how each is run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jax import Array

from jaxrnn.convert.onnx_writer import Graph, native
from jaxrnn.data.files import text_digest
from jaxrnn.extras import require
from jaxrnn.models import LanguageModel
from jaxrnn.models.saved import (
    CONFIG,
    OPTIONS,
    WEIGHTS,
    from_named,
    make_language_model,
    named,
)
from jaxrnn.training.paths import whole_path
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.directory import write_json, write_text

from .config import Config
from .run import load_recurrent

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True)
class Options:
    """Writes a trained language model as files that need nothing of what trained it."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    out: Path
    """The folder to write: a new or an empty one."""
    formats: tuple[Literal["jax", "onnx"], ...] = ("jax", "onnx")
    """What to write beside model.safetensors, config.json and tokenizer.json."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with refusals():
        folder = whole_path(options.out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is there already: --out takes a new folder")
        model, tokenizer, config = load_recurrent(options.run_dir)
        files: dict[str, bytes] = {}
        if "onnx" in options.formats:
            files["model.onnx"] = as_onnx(model)
        if "jax" in options.formats:
            files |= as_programs(model)
        told = described(model, config, tokenizer)
        files |= as_safetensors(model, told)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        write_text(folder / "tokenizer.json", tokenizer.as_json())
        write_json(folder / CONFIG, told)  # the last
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def described(model: LanguageModel, config: Config, tokenizer: Any) -> dict[str, Any]:
    options = vars(config) | {"vocabulary_size": tokenizer.size}
    return {
        **{name: options[name] for name in OPTIONS},
        "tokens": config.tokens,
        "tokenizer_sha256": text_digest(tokenizer.as_json()),
        "carry": {k: list(a.shape) for k, a in named(model.initial_carry()).items()},
    }


def as_safetensors(model: LanguageModel, told: dict[str, Any]) -> dict[str, bytes]:
    """The parameters, and the carry before the first token, of one row. Raises ValueError
    for a model that is not what `told`, the content of config.json, makes up."""
    require("safetensors", "export")
    from safetensors.numpy import save

    params = nnx.state(model, nnx.Param)
    plain = make_language_model(**{name: told[name] for name in OPTIONS})
    if shapes(params) != shapes(plain.like):
        raise ValueError(
            "only a model of plain layers, all of one size, can leave so far: this one has "
            "blocks, noise around its cells, or a last layer of another size"
        )
    trees = {WEIGHTS: params, "carry.safetensors": model.initial_carry()}
    return {
        file: save({name: np.array(leaf, order="C") for name, leaf in named(tree).items()})
        for file, tree in trees.items()
    }


def shapes(params: Any) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in named(params).items()}


def as_programs(model: LanguageModel) -> dict[str, bytes]:
    """What `jax.export.deserialize` reads: the parameters are in it, and the carry is a
    dict of arrays, so that no class of ours is needed.

        forward(tokens [T, B] int32, carry) -> (logits [T, B, V], carry)
        step(tokens [B] int32, carry) -> (logits [B, V], carry)
    """
    require("flatbuffers", "export")
    like = model.initial_carry()

    def forward(tokens: Array, carry: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        after, logits = model(tokens, from_named(like, carry))
        return logits, named(after)

    def step(tokens: Array, carry: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        logits, after = forward(tokens[None], carry)
        return logits[0], after

    sizes: Any = jax.export.symbolic_shape("t, b")
    t, b = sizes
    carry = named(jax.eval_shape(lambda: model.initial_carry((b,))))
    programs = {}
    for function, shape in ((forward, (t, b)), (step, (b,))):
        tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
        exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(tokens, carry)
        programs[f"{function.__name__}.jax"] = bytes(exported.serialize())
    return programs


def as_onnx(model: LanguageModel) -> bytes:
    """One graph: tokens `[T, B]` int64 and the carry to logits `[T, B, V]` and the carry
    after, `0.h.after` and so on. Raises ValueError if ONNX has no node for a cell."""
    try:
        layers = [native(layer.recurrence, layer.arrays()) for layer in model.layers]
    except ValueError as error:
        raise ValueError(f"{error}; to do without: --formats jax") from None
    graph = Graph()
    tokens = graph.input("tokens", np.int64, ("T", "B"))
    table = model.embedding.embedding[...]
    ys = graph.node("Gather", [graph.constant("embedding", table), tokens], ["embedded"])
    for number, layer in enumerate(layers):
        ys = graph.layer(str(number), layer, ys)
    kernel, bias = table.T, None
    if not model.tied:
        kernel, bias = model.output.kernel[...], model.output.bias
    elif model.narrow is not None:
        narrow = graph.constant("narrow", model.narrow.kernel[...])
        ys = graph.node("MatMul", [ys, narrow], ["narrowed"])
    bias = model.bias if bias is None else bias
    ys = graph.node("MatMul", [ys, graph.constant("kernel", kernel)], ["unbiased"])
    graph.node("Add", [ys, graph.constant("bias", bias[...])], ["logits"])
    graph.output("logits", np.float32, ("T", "B", kernel.shape[1]))
    return graph.model().SerializeToString()


if __name__ == "__main__":
    terminal.run(main)
