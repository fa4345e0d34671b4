"""What the compiler makes of `Resident`'s kernels, beside `fused`. Nothing runs on a TPU.

    python -m experiments.speed.tpu.resident 512 --chips v5e v6e
    python -m experiments.speed.tpu.resident 2x650

A number is that of an LSTM's units: value and gradient over 64 steps of 64 rows, on one
chip, in float32 and bfloat16. "2x650" is the training step of that language model, on
four chips. XLA's cost model knows no cycles of a Pallas kernel. What there is instead is
the kernel's schedule, from the compiler's dump: each word of it takes a cycle, and one
step takes about all of them, if it never waits for memory.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import SingleDeviceSharding

import jaxrnn
from jaxrnn.strategies import Call, Resident, choose

from ..probes import emit
from . import made_up, programs
from .compiling import GIB, compiled

CASES = ("256", "512", "1024", "2x650")
STEPS, ROWS = 64, 64
DUMPING = (
    "--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
    "--xla_jf_dump_llo_pass_label_regex=final"
)
_WORDS = re.compile(r"total scheduled bundles:\s*(\d+)")


@dataclass(frozen=True)
class Preferred(Resident):
    """One that "auto" takes wherever it can."""

    def drawback(self, call: Call, platform: str) -> None:
        return None


def words(dump: Path) -> str:
    """How many words the kernels' schedules have, in their order; empties the folder."""
    found = []
    for file in sorted(dump.iterdir()):
        text = file.read_text(errors="replace")
        if "tpu_custom_call" in text and "-TLP-" not in file.name:  # that is the whole
            found += _WORDS.findall(text)
        file.unlink()
    return " + ".join(found)


def gradient(cell: Any, strategy: Any, params: Any, xs: Array, **flags: Any) -> Any:
    def loss(params: Any, xs: Array) -> tuple[Array, Any]:
        out = jaxrnn.unroll(cell, params, xs, strategy=strategy, **flags)
        return jnp.sum(out[1].astype(jnp.float32)), out

    return jax.grad(loss, (0, 1), has_aux=True)(params, xs)


Lowered = Iterator[tuple[str, int, Callable[[], Any]]]  # name, chips, what lowers it


def layer(size: int, chip: str) -> Lowered:
    """Value and gradient of an LSTM, with masks and resets."""
    here = SingleDeviceSharding(programs.describe(f"{chip}:2x2")[0])

    def there(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)

    cell = jaxrnn.LSTM(size, size)
    flag = there(jax.ShapeDtypeStruct((STEPS, ROWS), bool))
    for dtype in "float32", "bfloat16":
        params = jax.eval_shape(partial(cell.init, dtype=dtype), jax.random.key(0))
        xs = jax.ShapeDtypeStruct((STEPS, ROWS, size), dtype)
        arrays = jax.tree.map(there, (params, xs))
        for strategy in "fused", "resident":
            run = jax.jit(partial(gradient, cell, strategy))
            lower = partial(run.lower, *arrays, mask=flag, reset=flag)
            yield f"{strategy}, gradient, {dtype}", 1, lower


def training(preset: str, chip: str) -> Lowered:
    """The training step of a language model by "auto", and where that takes `Resident`."""
    known = choose.STRATEGIES
    for name, first in ("fused", {}), ("resident", {"resident": Preferred()}):
        choose.STRATEGIES = first | known  # pyright: ignore[reportAttributeAccessIssue]
        trainer = made_up.trainer("larger", preset)
        spread = programs.spread(trainer, programs.describe(f"{chip}:2x2"))
        yield f"{name}, step", spread.mesh.size, dict(programs.programs(spread))["step"]
    choose.STRATEGIES = known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--chips", nargs="+", default=list(GIB), choices=GIB)
    arguments = parser.parse_args()
    case = arguments.case
    with tempfile.TemporaryDirectory() as folder:
        # Read where libtpu is loaded, at the first topology.
        os.environ["LIBTPU_INIT_ARGS"] = DUMPING.format(folder=folder)
        for chip in arguments.chips:
            found = layer(int(case), chip) if case.isdecimal() else training(case, chip)
            for name, chips, lower in found:
                row = compiled(lower, chip) | {"words of a step": words(Path(folder))}
                emit(program=name, chip=chip, chips=chips, **row)


if __name__ == "__main__":
    main()
