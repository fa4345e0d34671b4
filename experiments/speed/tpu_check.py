"""What the compiler of TPUs makes of every preset, without a TPU. Nothing runs on one.

    python -m experiments.speed.tpu_check --out tpu-check
    python -m experiments.speed.tpu_check --only "language_model ptb-small" larger
    python -m experiments.speed.tpu_check --only kernel

Every preset's training step and evaluation, the language models' sampler, and larger
language models are compiled by libtpu for four chips of v5e and of v6e: what memory of a
chip they take, which collectives there are and whether any stands in a loop, and what the
compiler's own cost model says. Problems have the sizes of their data sets and data made
up (`tpu.made_up`). "kernel" is the strategy "resident" beside "fused" (`tpu.resident`).
Every preset is a process of its own. Results go to `tpu.json` and `tpu.md` in `--out`.

Exit code 1: a program does not compile or does not fit a chip's memory, or a collective
stands in a loop, which no recurrence here asks for. Exit code 2: there is no libtpu.
"""

import argparse
import importlib.metadata
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import probes
from .probes import Probe
from .tpu.compiling import GIB
from .tpu.made_up import EXPERIMENTS
from .tpu.resident import CASES

# What libtpu asks for where there is no TPU, or another process has it loaded.
WITHOUT_A_TPU = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

# What the sentences and the verdict say, which the table need not.
UNSEEN = {"wrong", "why", "ok", "compiles", "fits", "in loops"}

MISSING = (
    "tpu-check needs libtpu, the compiler of TPUs, which runs without one: "
    f"{sys.executable} -m pip install 'jax[tpu]=={importlib.metadata.version('jax')}'"
)


def find_probes(only: list[str] | None, chips: list[str]) -> list[Probe]:
    """One a preset, then those of the kernel; raises ValueError if none has a name that
    begins with one of `only`."""
    found = [
        Probe(f"{name} {preset}", "tpu.compiling", (name, preset, "--chips", *chips))
        for name, experiment in EXPERIMENTS.items()
        for preset in experiment.presets
    ]
    found += [
        Probe(f"kernel {case}", "tpu.resident", (case, "--chips", *chips)) for case in CASES
    ]
    wanted = [probe for probe in found if probe.name.startswith(tuple(only or [""]))]
    if not wanted:
        raise ValueError(f"no probe's name begins with {' or '.join(only or [])}")
    return wanted


def judged(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row with what is wrong with it, in a sentence, and whether it is ok."""
    what = f"{name}, {row['program']} on {row['chips']} chips of {row['chip']}"
    wrong = ""
    if row.get("fits") is False:
        needed = row.get("why") or f"needs {row['MiB']} of {row['of']} MiB"
        wrong = f"{what} does not fit a chip's memory: {needed}"
    elif not row["compiles"]:
        wrong = f"{what} does not compile: {row['why']}"
    elif row["in loops"]:
        wrong = (
            f"{what} has a collective in a loop, for which its recurrence does not ask: "
            f"{row['in loops']}"
        )
    return row | {"ok": not wrong} | ({"wrong": wrong} if wrong else {})


def said(results: list[dict[str, Any]]) -> list[str]:
    """What is wrong, a sentence each."""
    rows = [row for found in results for row in found["rows"]]
    sentences = [row["wrong"] for row in rows if "wrong" in row]
    return sentences + [f"{f['probe']}: {f['failed']}" for f in results if "failed" in f]


def body(results: list[dict[str, Any]]) -> list[str]:
    """What is said, and one table of all programs."""
    rows = [
        {"preset": found["probe"], "verdict": "ok" if row["ok"] else "**fails**", **row}
        for found in results
        for row in found["rows"]
    ]
    table = probes.table({k: v for k, v in row.items() if k not in UNSEEN} for row in rows)
    return ["", *(f"- {sentence}" for sentence in said(results)), "", *table]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tpu-check"))
    parser.add_argument("--only", nargs="+", help="only presets whose name begins so")
    parser.add_argument("--chips", nargs="+", default=list(GIB), choices=GIB)
    parser.add_argument("--seconds", type=float, default=900, help="at most, for a preset")
    arguments = parser.parse_args()
    if find_spec("libtpu") is None:
        print(MISSING, file=sys.stderr)
        sys.exit(2)
    try:
        wanted = find_probes(arguments.only, arguments.chips)
    except ValueError as error:
        parser.error(str(error))
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = {
        "hardware": "none: NOTHING BELOW RAN ON A TPU, its compiler did on this machine",
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("jax", "jaxlib", "flax", "libtpu")
        },
        "CPUs": os.cpu_count(),
        "commit": probes.commit(),
    }
    print("compiling for TPUs that are only described; nothing runs on one")
    results = []
    for probe in wanted:
        found = probes.run(probe, arguments.seconds, WITHOUT_A_TPU)
        found["rows"] = [judged(row, probe.name) for row in found["rows"]]
        results.append(found)
        for sentence in said([found]):
            print(f"  {sentence}", flush=True)
        title = "What the compiler of TPUs makes of every preset"
        probes.write(arguments.out / "tpu", title, about, results, body(results))
    print(f"{arguments.out / 'tpu.md'}: {len(results)} presets; nothing ran on a TPU")
    if not probes.sound(results):
        sys.exit(1)


if __name__ == "__main__":
    main()
