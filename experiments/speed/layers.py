"""Times the gradient of one recurrent layer beside the libraries that people come from.

    python -m experiments.speed.layers --cell lstm gru --rounds 15 --out speed-layers
    python -m experiments.speed.layers --sizes 35x20x650 --peers torch.nn flax.linen

Every library is a process of its own (`layer_peers`) with the same weights, held to our
outputs before anything is timed. They are timed in turn, one gradient each, so that a
drifting machine treats them alike: the gradient of a weighted sum of all outputs by the
weights and the inputs, in float32. Sizes are T x B x H, with as many features as units.
"products alone" is our loop with no arithmetic between the products. Results go to
`layers.json` and `layers.md` in `--out`; a library that is not installed is left out, by
name. Exit code 1: a library's outputs differ from ours.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import tyro

from jaxrnn.training.run import command, terminal

from . import probes
from .layer_peers import PEERS
from .rivals import PACKAGES, Process, installed, processes_in_turn, spread

OURS, FLOOR, TORCH = "jaxrnn", "products alone", "torch.nn"
NAMES = (*PEERS, TORCH)
SIZES = (
    "35x20x650",
    "64x50x512",
    "20x20x200",
    "70x80x1150",
    "256x16x256",
    "1000x8x64",
)
SAME = 1e-4  # the largest difference of an output, which lies in [-1, 1]


@dataclass(frozen=True)
class Options:
    """Times the gradient of one recurrent layer beside other libraries'."""

    cell: tuple[Literal["lstm", "gru"], ...] = ("lstm", "gru")
    sizes: tuple[str, ...] = SIZES
    """T x B x H, such as 35x20x650."""
    peers: tuple[str, ...] = NAMES[1:]
    rounds: int = 15
    out: Path = Path("speed-layers")

    def __post_init__(self) -> None:
        for name in self.peers:
            if name not in NAMES:
                raise ValueError(f"unknown peer {name!r}; known: {', '.join(NAMES[1:])}")
        for size in self.sizes:
            words = size.split("x")
            if len(words) != 3 or not all(w.isdecimal() and int(w) for w in words):
                raise ValueError(f"a size is T x B x H, such as 35x20x650, got {size!r}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be 1 or more, got {self.rounds}")


def rows_of(cell: str, size: str, peers: Sequence[str], rounds: int) -> list[dict]:
    """A row for each library: its milliseconds, and how many times ours they are."""
    processes = {
        name: Process("layer_peers", name, cell, *size.split("x"))
        for name in (OURS, *peers)
    }
    seconds = processes_in_turn(processes, rounds)
    return [
        {
            "cell": cell,
            "size": size,
            "library": name,
            **spread(seconds[name], seconds[OURS]),
            "first call, s": process.about["first"],
            "ok": name == FLOOR or process.about["error"] < SAME,
        }
        for name, process in processes.items()
    ]


def summary(rows: list[dict]) -> list[str]:
    """The geometric means over the sizes, of the best JAX library and of the others."""
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        ratios: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["cell"] == cell and row["library"] != OURS:
                alone = row["library"] in (FLOOR, TORCH)
                kind = row["library"] if alone else "best of the JAX libraries"
                best = ratios.setdefault(kind, {})
                best[row["size"]] = min(row["times ours"], best.get(row["size"], math.inf))
        for kind, by_size in ratios.items():
            found = by_size.values()
            lines.append(
                f"- {cell}, {kind}: {statistics.geometric_mean(found):.2f} times our time "
                f"on the geometric mean of {len(found)} sizes, {min(found):.2f} at least"
            )
    return lines


def main() -> None:
    with command.refusals():
        options = tyro.cli(Options, description=__doc__)
    missing = [name for name in options.peers if not installed(name)]
    peers = [name for name in options.peers if name not in missing]
    about = {
        "hardware": probes.processor(),
        "versions": {
            name: version(PACKAGES.get(name, "flax"))
            for name in peers
            if name in PACKAGES or name.startswith("flax")
        }
        | {"jax": version("jax")},
        "not installed": missing or "none",
        "rounds": options.rounds,
        "commit": probes.commit(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for cell in options.cell:
        for size in options.sizes:
            # The plain LSTM of Linen is another cell, its plain GRU is not.
            fitting = [name for name in peers if cell == "lstm" or "plain" not in name]
            rows += rows_of(cell, size, fitting, options.rounds)
            body = ["", *summary(rows), "", *probes.table(rows)]
            results = [{"probe": "layers", "rows": rows}]
            title = "The gradient of one recurrent layer"
            probes.write(options.out / "layers", title, about, results, body)
            for row in rows[-len(fitting) - 1 :]:
                print(
                    f"{cell} {size} {row['library']:20s} {row['ms']:10.1f} ms"
                    f"   x {row['times ours']:.2f}" + ("" if row["ok"] else "   DIFFERS")
                )
    print("\n".join(summary(rows)))
    if not all(row["ok"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    terminal.run(main)
