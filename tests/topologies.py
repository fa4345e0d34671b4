"""One model learned on many topologies: the same batches, the same losses, the same bits.

`python tests/topologies.py` trains it on 1, 2, 4 and 8 simulated devices in every
factorisation into data x model, and in 1, 2 and 4 processes, twice each, and prints the
table of docs/promises.md; `test_topologies.py` trains it on one of them for a few steps.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5
ROWS = 8


@dataclass(frozen=True)
class Topology:
    """So many processes, and how all of their devices share the work."""

    data: int = 1
    model: int = 1
    processes: int = 1
    fsdp: bool = False

    def __str__(self) -> str:
        parts = ", parameters in parts" if self.fsdp else ""
        return f"data={self.data}, model={self.model}{parts}"


ALL = [
    *(
        Topology(devices // model, model)
        for devices in (1, 2, 4, 8)
        for model in (1, 2, 4, 8)
        if devices % model == 0
    ),
    Topology(3),
    Topology(2, 1, processes=2),
    Topology(2, 2, processes=2, fsdp=True),
    Topology(4, 1, processes=4),
    Topology(4, 2, processes=4, fsdp=True),
]


@dataclass(frozen=True)
class Learned:
    """What training came to: a digest of every row of the batches, losses, the state's."""

    rows: dict[str, str]
    losses: list[float]
    state: str


def learn(text: Path, topology: Topology, steps: int) -> Learned:
    """In this process, or as one of several."""
    from dataclasses import replace

    from experiments.language_model.config import PRESETS
    from experiments.language_model.problem import make_problem
    from jaxrnn.training.store.digest import digest_tree

    config = replace(
        PRESETS["tiny"][1],
        data=text,
        batch_size=ROWS,
        layers=2,
        hidden_size=32,
        embedding_size=16,
        mesh=f"data={topology.data},model={topology.model}",
        fsdp=topology.fsdp,
    )
    trainer = config.make_trainer(make_problem(config))
    state, losses, rows = trainer.init(0), [], {}
    for step in range(steps):
        batch = trainer.batch(step)
        for number, row in rows_of(batch, trainer.problem.batch_spec):
            rows.setdefault(number, {})[step] = row
        state, metrics = trainer.step(state, batch)
        losses.append(float(metrics["loss"]))
    told = {
        str(number): hashlib.sha256(json.dumps(seen).encode()).hexdigest()
        for number, seen in rows.items()
    }
    return Learned(told, losses, digest_tree(state))


def rows_of(batch: Any, spec: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows of a batch that lie on the devices of this process, and their digests."""
    import jax
    import numpy as np

    found: dict[int, list[str]] = {}
    for leaf in jax.tree.leaves(batch):
        axis = tuple(spec(leaf)).index("data")
        rows = {}
        for shard in leaf.addressable_shards:
            first, last, _ = shard.index[axis].indices(leaf.shape[axis])
            for row in range(first, last):
                numbers = np.take(np.asarray(shard.data), row - first, axis)
                rows[row] = hashlib.sha256(numbers.tobytes()).hexdigest()
        for row, digest in rows.items():
            found.setdefault(row, []).append(digest)
    yield from found.items()


def start(topology: Topology, text: Path, steps: int, cache: Path) -> list[Learned]:
    """What each process of a topology learned."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    devices = topology.data * topology.model // topology.processes
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(topology.processes),
        "PYTHONPATH": str(Path.cwd()),
    }
    asked = json.dumps([str(text), asdict(topology), steps])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--one", asked],
            env=environment | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(topology.processes)
    ]
    told = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes), f"{topology} failed"
    return [Learned(**json.loads(said.splitlines()[-1])) for said in told]


def joined(processes: list[Learned]) -> Learned:
    """The rows of all processes; raises AssertionError if they tell of other losses."""
    first, *others = processes
    rows = dict(first.rows)
    for other in others:
        assert (other.losses, other.state) == (first.losses, first.state)
        rows |= other.rows
    return Learned(dict(sorted(rows.items())), first.losses, first.state)


def write_text(folder: Path) -> Path:
    text = folder / "text"
    text.write_text("to be, or not to be: that is the question. " * 300)
    return text


def compared(topologies: Iterable[Topology], steps: int) -> Iterator[tuple[str, bool]]:
    """A row of the table for each topology, and whether it is as promised."""
    with tempfile.TemporaryDirectory() as folder:
        text, cache = write_text(Path(folder)), Path(folder) / "compiled"
        one: Learned | None = None
        for topology in topologies:
            learned, again = (joined(start(topology, text, steps, cache)) for _ in range(2))
            one = one or learned
            off = max(abs(a - b) for a, b in zip(learned.losses, one.losses, strict=True))
            rows, bits = learned.rows == one.rows, learned == again
            yield (
                f"| {topology.processes} | {topology} | {'yes' if rows else '**no**'} "
                f"| {off:.1e} | {'yes' if bits else '**no**'} |",
                rows and bits and off <= TOLERANCE,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        text, topology, steps = json.loads(told.one)
        if topology["processes"] > 1:
            from jaxrnn.training.processes import connect

            connect()
        learned = learn(Path(text), Topology(**topology), steps)
        print(json.dumps(asdict(learned)), flush=True)
        return 0
    print("| processes | mesh | same batches | losses off by | same bits again |")
    print("|---|---|---|---|---|")
    good = True
    for row, as_promised in compared(ALL, told.steps):
        print(row, flush=True)
        good &= as_promised
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
