"""What memory saving and restoring take of each of several processes.

    python -m experiments.speed.shares --processes 2 --megabytes 200

A state of so many MB lies over the processes, one device each. Printed is by how much each
one's resident memory had grown at its peak.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LEAVES = 10


def measure(run_dir: Path, megabytes: int) -> dict[str, float]:
    """In one of the processes."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxrnn.training.mesh import DATA, make_mesh
    from jaxrnn.training.processes import connect
    from jaxrnn.training.store.checkpoint import CheckpointStore

    connect()
    lies = NamedSharding(make_mesh(), PartitionSpec(DATA))
    shape = jax.device_count(), megabytes * 250_000 // LEAVES // jax.device_count()

    def saved_and_restored(shape: tuple[int, int], run_dir: Path) -> list[float]:
        make = jax.jit(lambda n: jnp.full(shape, n, jnp.float32), out_shardings=lies)
        state = {f"leaf{n}": make(n) for n in range(LEAVES)}
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), state
        )
        jax.block_until_ready(state)
        peaks = [peak()]
        with CheckpointStore(run_dir) as store:
            store.save(1, state)
            store.wait()
            peaks.append(peak())
            del state
            jax.block_until_ready(store.restore(like).state)  # type: ignore
        return [*peaks, peak()]

    saved_and_restored((jax.device_count(), 8), run_dir / "small")  # libraries are loaded
    before, saved, restored = saved_and_restored(shape, run_dir / "large")
    return {"saving": saved - before, "restoring": max(0.0, restored - saved)}


def peak() -> float:
    """The largest resident memory so far, in MB."""
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one is not None:
        print(json.dumps(measure(told.one, told.megabytes)), flush=True)
        return
    with socket.socket() as free, tempfile.TemporaryDirectory() as run_dir:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
        free.close()
        count = str(told.processes)
        several = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": count}
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "experiments.speed.shares", "--one", run_dir]
                + ["--megabytes", str(told.megabytes)],
                env=os.environ | several | {"JAX_PROCESS_ID": str(index)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(told.processes)
        ]
        for index, process in enumerate(started):
            grown = json.loads(process.communicate()[0].splitlines()[-1])
            shown = ", ".join(f"{what} {size:.0f} MB" for what, size in grown.items())
            print(f"process {index} of {count}, a state of {told.megabytes} MB: {shown}")


if __name__ == "__main__":
    main()
