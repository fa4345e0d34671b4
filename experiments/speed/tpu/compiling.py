"""Compiles a preset's programs for TPUs, and says what came out. Nothing runs on a TPU.

    python -m experiments.speed.tpu.compiling language_model ptb-small --chips v5e v6e
    python -m experiments.speed.tpu.compiling larger "1 billion" --slice 8x8 --model 8

Needs libtpu, the compiler; no TPU. JAX itself stays on the CPU (JAX_PLATFORMS=cpu), and
`tpu_check` sets what else libtpu asks for where there is none.
"""

import argparse
import re
import time
from typing import Any

from ..probes import brief, emit
from . import hlo, made_up, programs

GIB = {"v5e": 16, "v6e": 32}  # of a chip's memory; the compiler itself keeps a part
MIB = 2**20
_TOO_LARGE = re.compile(r"RESOURCE_EXHAUSTED: (.*\bhbm\b.*)", re.IGNORECASE)


def memory(compiled: Any, chip: str) -> dict[str, Any]:
    """MiB a chip, as the compiler has laid them out."""
    found = compiled.memory_analysis()
    arguments, outputs = found.argument_size_in_bytes, found.output_size_in_bytes
    # What is donated is argument and output in one.
    outputs -= found.alias_size_in_bytes
    temporaries = found.temp_size_in_bytes
    total = arguments + outputs + temporaries + found.generated_code_size_in_bytes
    parts = {"arguments": arguments, "temporaries": temporaries, "outputs": outputs}
    named = {f"MiB {name}": round(size / MIB, 1) for name, size in parts.items()}
    fits = total <= GIB[chip] * 2**30
    return named | {"MiB": round(total / MIB, 1), "of": GIB[chip] * 1024, "fits": fits}


def costs(compiled: Any, module: hlo.Module) -> dict[str, Any]:
    """A chip's, by the compiler's own model. Its flops and bytes count the body of a loop
    once; the cycles count it as often as the loop turns."""
    found, cycles = compiled.cost_analysis(), module.cycles
    return {
        "Gflop": found["flops"] / 1e9,
        "GB": found["bytes accessed"] / 1e9,
        "Mcycles": cycles.all / 1e6,
        "loops %": round(100 * cycles.loops / max(cycles.all, 1)),
        "products in loops %": round(100 * cycles.products / max(cycles.loops, 1)),
    }


def communication(module: hlo.Module) -> dict[str, Any]:
    """The loops' turns, the collectives, and which of them stand in a loop."""
    inside = hlo.in_loops(module.collectives)
    turns = [loop.turns or "?" for loop in module.loops]
    names = [f"{found.kind} of {found.shape} in {found.place}" for found in inside[:3]]
    if len(inside) > len(names):
        names.append(f"and {len(inside) - len(names)} more")
    return {
        "turns": " ".join(map(str, turns)),
        "collectives": ", ".join(
            f"{count} {kind}" for kind, count in hlo.counted(module.collectives).items()
        ),
        "in loops": "; ".join(names),
    }


def compiled(lower: Any, chip: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        lowered = lower()
        program = lowered.compile()
    except Exception as error:
        found = _TOO_LARGE.search(str(error))
        if found:
            return {"compiles": False, "fits": False, "why": found[1].rstrip(".")}
        return {"compiles": False, "why": brief(error)}
    taken = round(time.monotonic() - began, 1)
    module = hlo.Module.parse(program.as_text())
    row = {"compiles": True, "seconds": taken, **memory(program, chip)}
    return row | costs(program, module) | communication(module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=made_up.EXPERIMENTS)
    parser.add_argument("preset")
    parser.add_argument("--chips", nargs="+", default=list(GIB), choices=GIB)
    parser.add_argument("--slice", default="2x2")
    parser.add_argument("--model", type=int, default=1, help="chips that share the units")
    arguments = parser.parse_args()
    trainer = made_up.trainer(arguments.experiment, arguments.preset)
    for chip in arguments.chips:
        devices = programs.describe(f"{chip}:{arguments.slice}")
        spread = programs.spread(trainer, devices, arguments.model)
        for name, lower in programs.programs(spread):
            about = {"program": name, "chip": chip, "chips": spread.mesh.size}
            emit(**about, **compiled(lower, chip))


if __name__ == "__main__":
    main()
