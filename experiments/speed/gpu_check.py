"""What this GPU shows: parity, the rungs against their rivals, determinism, the kernels.

    python -m experiments.speed.gpu_check --out results --budget 280

Every probe is a process of its own. First those that time, side by side: they compile
together and time one after another (`gpu.measure.alone`). Then those that only check. A
program that hangs ends its process, and what that had shown before is kept. Results go to
`gpu.json` and `gpu.md` in `--out`. Without a GPU every rung is lowered for CUDA and each
kernel's tiling is simulated instead, and the report says that nothing ran on hardware.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from .probes import Probe, commit, first_line, run, sound, table, write

BATCHES = [f"{size}x{batch}" for size in (512, 256) for batch in (64, 16, 128)]
SIZES = [f"{size}x64" for size in (512, 256, 1024)]
RUNGS = ["fused", "fused unroll 1", "flax.linen.RNN"]
LADDER = ["fused unroll 16", "scan", "fused graph", "fused cublas"]
CUDNN = ["jax.experimental.rnn", "jax.experimental.rnn highest"]
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
CELLS = (  # one of every family; `parity` alone goes through all
    *("LSTM", "GRU", "LayerNormLSTM", "ProjectedLSTM", "SLSTM", "LRU", "MLSTM"),
    *("Zoneout", "Slower", "Precision", "Bidirectional"),
)


def layers(name: str, **options: list[str]) -> Probe:
    arguments = [word for key, values in options.items() for word in (f"--{key}", *values)]
    return Probe(name, "gpu.layers", arguments)


TIMES = [
    *(
        Probe(
            f"persistent {size}",
            "gpu.persistent_check",
            ("--size", size, "--masked", *more),
        )
        for size, more in zip(
            BATCHES, (["512x64"], [], [], [], ["256x16"], []), strict=True
        )
    ),
    *(
        layers(f"{cell} {dtype}", cell=[cell], size=SIZES, dtype=[dtype], programs=RUNGS)
        for cell in ("lstm", "gru")
        for dtype in ("bfloat16", "float32")
    ),
    Probe("torch.nn LSTM", "gpu.torch_layers", ("--size", *BATCHES, "1024x64")),
    Probe("torch.nn GRU", "gpu.torch_layers", ("--cell", "gru", "--size", *SIZES)),
    *(
        Probe(
            f"language model 2x{hidden}",
            "gpu.language_model",
            ("--hidden", hidden, "--precision", "bfloat16", "float32")
            + ("--ways", "fused", "fused unroll 1"),
        )
        for hidden in ("650", "1500")
    ),
    Probe("torch language model", "gpu.torch_language_model", ("--hidden", "650", "1500")),
    Probe("cuDNN's layout", "gpu.cudnn"),
    layers("cuDNN through JAX", size=SIZES, dtype=["float32"], programs=CUDNN),
    layers("rungs", size=["512x64"], dtype=["bfloat16"], programs=LADDER),
    layers("batches", size=["512x16", "256x16"], dtype=["bfloat16"], programs=RUNGS),
]

CORRECTNESS = [
    Probe("parity float32", "gpu.parity", ("--only", *CELLS)),
    Probe("parity bfloat16", "gpu.parity", ("--bfloat16", "--only", *CELLS)),
    *(
        Probe(f"bits {name} {run}", "gpu.language_model", ("--repeat", "2"), flags)
        for name, flags in (("as it is", ""), ("deterministic", DETERMINISTIC))
        for run in "ab"
    ),
]

WITHOUT_A_GPU = [Probe("lowering and simulation", "gpu.lowering")]


def has_gpu() -> bool:
    """Asked in a process of its own: this one must hold no memory of the card."""
    question = "import jax; print(jax.default_backend())"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=120
    )
    return answer.stdout.strip() == "gpu"


def machine(named: str | None) -> dict[str, Any]:
    versions = (
        "import importlib.metadata as m; print({p: m.version(p) for p in "
        "('jax', 'jaxlib', 'flax') if m.version(p)})"
    )
    query = "--query-gpu=name,driver_version,memory.total"
    return {
        "card": first_line("nvidia-smi", query, "--format=csv,noheader"),
        "versions": first_line(sys.executable, "-c", versions),
        "commit": named or commit(),
    }


def sections(results: list[dict[str, Any]]) -> list[str]:
    """A table for each probe."""
    lines = []
    for found in results:
        failed = f", {found['failed']}" if "failed" in found else ""
        lines += ["", f"## {found['probe']} ({found['seconds']} s{failed})", ""]
        lines += table(found["rows"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--budget", type=float, default=280, help="seconds for all probes")
    parser.add_argument("--commit", help="git's, where it is not named")
    parser.add_argument("--only", nargs="+", help="only probes whose name begins with this")
    parser.add_argument("--small", action="store_true", help="without a GPU: a short run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    about, results = machine(arguments.commit), []
    gpu = has_gpu()
    about["hardware"] = "ran on it" if gpu else "none: NOTHING BELOW RAN ON HARDWARE"

    def take(probe: Probe, **environment: str) -> None:
        left = arguments.budget - (time.monotonic() - began)
        results.append(run(probe, max(left, 1), environment))
        body = sections(results)
        write(arguments.out / "gpu", "What this GPU showed", about, results, body)

    def wanted(probe: Probe) -> bool:
        return not arguments.only or probe.name.startswith(tuple(arguments.only))

    if gpu:
        with tempfile.NamedTemporaryFile() as lock, ThreadPoolExecutor(32) as pool:
            share = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "GPU_CHECK_LOCK": lock.name}
            for probes in (TIMES, CORRECTNESS):
                list(pool.map(partial(take, **share), filter(wanted, probes)))
    else:
        print("no GPU here: lowering for CUDA and simulating; nothing runs on hardware")
        small = ("--small",) if arguments.small else ()
        for probe in WITHOUT_A_GPU:
            take(probe._replace(arguments=(*probe.arguments, *small)), JAX_PLATFORMS="cpu")
    print(f"{arguments.out / 'gpu.md'}: {len(results)} probes")
    if not sound(results):
        sys.exit(1)


if __name__ == "__main__":
    main()
