"""What a step of a language model would take on 8, 64 and 256 chips, on paper.

    python -m experiments.speed.tpu.on_paper

Nothing runs and nothing is compiled: the numbers of the chips, those of the model, and the
formula of `seconds`. The README beside tells what it leaves out.
"""

from dataclasses import dataclass
from typing import Any

from jaxrnn.training.run import terminal

from ...language_model.config import Config
from .made_up import LARGER, VOCABULARIES, WORDS_OF_LARGER

HOP = 1e-6  # seconds from chip to chip, assumed
FORWARD, BACKWARD = 7, 9  # fusions of a time step of one layer, as the compiler makes them
CYCLES = 2_000  # of a fusion at least, by its own estimate
KEPT = 100e6  # bytes of recurrent weights that a chip's 128 MB of VMEM can keep
PRODUCT, EXACT = 2, 4  # bytes of a number in a product, and of one kept
ADAM = 7  # times that a parameter's numbers are read or written in an update


@dataclass(frozen=True)
class Chip:
    """As docs.cloud.google.com/tpu/docs/v5e and /v6e tell them."""

    flops: float  # a second, bfloat16
    memory: float  # bytes a second
    links: float  # bytes a second, sent over all four together
    hertz: float


CHIPS = {
    "v5e": Chip(197e12, 819e9, 4 * 50e9, 1.5e9),
    "v6e": Chip(918e12, 1638e9, 4 * 100e9, 1.75e9),
}


@dataclass(frozen=True)
class Case:
    """A model over `chips`: `model` of them share its units, each `rows` of the batch."""

    preset: str
    rows: int
    model: int = 1

    @property
    def config(self) -> Config:
        return LARGER[self.preset][1]

    @property
    def words(self) -> int:
        return WORDS_OF_LARGER.get(self.preset, VOCABULARIES["word"])

    @property
    def recurrent(self) -> int:
        """The weights of one layer's recurrent product."""
        return 4 * self.config.hidden_size**2

    @property
    def parameters(self) -> int:
        tables = self.words * self.config.hidden_size * (1 if self.config.tied else 2)
        return 2 * self.config.layers * self.recurrent + tables

    @property
    def flops(self) -> float:
        """Of a step, of one share of the rows: two for each weight and token forward, and
        twice as many back; a table is looked up in, and multiplied by once."""
        tokens = self.rows * self.config.sequence_length
        weights = 2 * self.config.layers * self.recurrent
        return 6 * tokens * (weights + self.words * self.config.hidden_size)


CASES = [
    Case("2x650", rows=20),
    Case("4x2048", rows=64),
    Case("1 billion", rows=4),
    Case("1 billion", rows=32, model=8),
]


def seconds(case: Case, chip: Chip, chips: int) -> dict[str, float]:
    """What the parts of a step take, none beside another.

    loops     layers x T x (fusions x CYCLES / hertz + turns x max(flops, bytes of w_h
              unless VMEM keeps them)), forward one turn, back one
    products  all other flops, and the update: bytes of parameters, gradients and moments
    gradients all-reduce (or gather and scatter) of the parameters: 2 P (d - 1) / d bytes
    h         layers x T x 2 x (its bytes of the other chips, and model / 2 hops)
    """
    config, model = case.config, case.model
    times = config.layers * config.sequence_length
    weights = case.recurrent / model
    product = 2 * case.rows * weights / chip.flops
    if PRODUCT * weights > KEPT:
        product = max(product, PRODUCT * weights / chip.memory)
    fusions = (FORWARD + BACKWARD) * CYCLES / chip.hertz
    in_loops = 4 * case.rows * weights * times

    # Only a slice of 16 x 16 closes its rings: elsewhere half of the links are of use.
    links = chip.links if chips == 256 else chip.links / 2
    data = chips // model
    state = EXACT * case.parameters / (chips if config.fsdp else model)
    reduced = 2 * EXACT * case.parameters / model * (data - 1) / data
    h = EXACT * case.rows * config.hidden_size * (model - 1) / model
    exchange = h / links + model / 2 * HOP if model > 1 else 0.0
    return {
        "loops": times * (fusions + 2 * product),
        "products": (case.flops / model - in_loops) / chip.flops
        + ADAM * state / chip.memory,
        "gradients": reduced / links,
        "h": 2 * times * exchange,
    }


def row(case: Case, name: str, chips: int) -> list[Any]:
    parts = seconds(case, CHIPS[name], chips)
    whole = sum(parts.values())
    alone = parts["loops"] + parts["products"]
    used = case.flops / case.model / whole / CHIPS[name].flops
    mesh = f"data={chips // case.model},model={case.model}"
    milliseconds = [f"{1e3 * part:.2f}" for part in (*parts.values(), whole)]
    told = [case.preset, name, chips, mesh, case.rows, *milliseconds]
    return [*told, f"{100 * alone / whole:.0f} %", f"{100 * used:.1f} %"]


def main() -> None:
    heads = ["preset", "chip", "chips", "mesh", "rows a share", "loops", "products, update"]
    heads += ["gradients", "h", "a step, ms", "efficiency", "of peak"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for case in CASES:
        for name in CHIPS:
            for chips in (8, 64, 256):
                print(f"| {' | '.join(map(str, row(case, name, chips)))} |")


if __name__ == "__main__":
    terminal.run(main)
