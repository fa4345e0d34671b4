"""What memory saving and restoring a state takes of each of several processes.

    python -m experiments.speed.shares --processes 2 --megabytes 200

A state of so many MB lies over the processes, one device each. Printed is by how much each
one's resident memory was larger at its peak than when it had its part of the state.
"""

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LEAVES = 10


def measure(run_dir: Path, megabytes: int) -> float:
    """By how many MB this process, one of several, has grown."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxrnn.training.mesh import DATA, make_mesh
    from jaxrnn.training.processes import connect
    from jaxrnn.training.store.checkpoint import CheckpointStore

    connect()
    lies = NamedSharding(make_mesh(), PartitionSpec(DATA))
    count = jax.device_count()

    def save_and_restore(width: int, run_dir: Path) -> float:
        make = jax.jit(lambda n: jnp.full((count, width), n * 1.0), out_shardings=lies)
        state = {f"leaf{n}": make(n) for n in range(LEAVES)}
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), state
        )
        jax.block_until_ready(state)
        before = peak()
        with CheckpointStore(run_dir) as store:
            store.save(1, state)
            store.wait()
            del state
            restored = store.restore(like)
        assert restored is not None
        jax.block_until_ready(restored.state)
        return peak() - before

    save_and_restore(8, run_dir / "small")  # now the libraries are there
    return save_and_restore(megabytes * 250_000 // LEAVES // count, run_dir / "large")


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
        print(measure(told.one, told.megabytes), flush=True)
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
            grown = float(process.communicate()[0].splitlines()[-1])
            print(
                f"process {index} of {count}, a state of {told.megabytes} MB: "
                f"{grown:.0f} MB"
            )


if __name__ == "__main__":
    main()
