"""What this GPU shows: parity, the rungs against their rivals, determinism, the kernels.

    python -m experiments.speed.gpu_check --out results --budget 280

Every probe is a process of its own with a limit, the most valuable first; what a probe
that fails or hangs has shown before is kept. Results go to `gpu.json` and `gpu.md` in
`--out`. Without a GPU every rung is lowered for CUDA and each kernel's tiling is simulated
instead, and the report says that nothing ran on hardware.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "experiments.speed.gpu"

SIZES = [f"{size}x{batch}" for size in (512, 256, 1024) for batch in (64, 16, 128)]
RUNGS = ["fused", "fused unroll 8", "flax.linen.RNN", "jax.experimental.rnn"]
LADDER = [
    *RUNGS,
    *("fused unroll 4", "fused unroll 16", "scan", "scan unroll 8", "fused highest"),
    *("fused cublas", "jax.experimental.rnn highest"),
]
GRAPHS = ["fused", "fused graph", "fused graph unrolled", "fused graph unroll 8"]
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Probe(NamedTuple):
    """One process: `python -m experiments.speed.gpu.MODULE ARGUMENTS`."""

    name: str
    module: str
    arguments: Sequence[str]
    seconds: int  # its limit
    flags: str = ""  # for XLA


def language_model(name: str, *arguments: str, seconds: int, flags: str = "") -> Probe:
    return Probe(name, "language_model", arguments, seconds, flags)


def layers(name: str, seconds: int, **options: list[str]) -> Probe:
    arguments = [word for key, values in options.items() for word in (f"--{key}", *values)]
    return Probe(name, "layers", arguments, seconds)


# Side by side: what is compared here is bits, not time.
CORRECTNESS = [
    Probe("parity float32", "parity", (), 110),
    Probe("parity bfloat16", "parity", ("--bfloat16",), 110),
    *(
        language_model(f"bits {name} {run}", "--repeat", "4", seconds=60, flags=flags)
        for name, flags in (("as it is", ""), ("deterministic", DETERMINISTIC))
        for run in "ab"
    ),
]

# One after the other, each with the machine to itself.
BOTH = ["bfloat16", "float32"]
TIMES = [
    Probe("torch.nn LSTM", "torch_layers", ("--size", *SIZES), 40),
    layers("ladder LSTM", 60, size=["512x64"], dtype=BOTH, programs=LADDER),
    layers("graphs LSTM", 40, size=["512x64"], dtype=["bfloat16"], programs=GRAPHS),
    Probe("persistent kernel gmem", "persistent_check", ("--exchange", "gmem"), 40),
    language_model(
        "language model",
        *("--hidden", "650", "1500", "--precision", *BOTH),
        *("--ways", "fused", "fused unroll 5", "fused graph unrolled"),
        seconds=60,
    ),
    Probe("torch language model", "torch_language_model", ("--hidden", "650", "1500"), 30),
    Probe("persistent kernel smem", "persistent_check", ("--exchange", "smem"), 40),
    layers("sizes LSTM", 120, size=SIZES[1:], dtype=BOTH, programs=RUNGS),
    Probe("torch.nn GRU", "torch_layers", ("--cell", "gru", "--size", *SIZES), 40),
    layers("sizes GRU", 120, cell=["gru"], size=SIZES, dtype=BOTH, programs=RUNGS),
]

WITHOUT_A_GPU = [Probe("lowering and simulation", "lowering", (), 600)]


def run(probe: Probe, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """Its rows, its seconds and what went wrong, if anything did."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {probe.flags}".strip()
    environment = {**os.environ, "XLA_FLAGS": flags, **environment}
    command = [sys.executable, "-m", f"{PACKAGE}.{probe.module}", *probe.arguments]
    began, rows, noise = time.monotonic(), [], []
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    watch = threading.Timer(seconds, process.kill)
    watch.start()
    assert process.stdout is not None
    for line in process.stdout:
        try:
            rows.append(json.loads(line))
        except ValueError:
            noise.append(line.rstrip())
    code = process.wait()
    watch.cancel()
    taken = time.monotonic() - began
    found: dict[str, Any] = {"probe": probe.name, "seconds": round(taken, 1), "rows": rows}
    if code:
        stopped = f"stopped after {seconds:.0f} s"
        found["failed"] = stopped if taken >= seconds else f"exit code {code}"
        found["noise"] = noise[-25:]
    print(
        f"{probe.name}: {len(rows)} rows in {taken:.0f} s",
        found.get("failed", ""),
        flush=True,
    )
    return found


def sound(rows: list[dict[str, Any]]) -> bool:
    return all(row.get("ok") is not False for row in rows)


def has_gpu() -> bool:
    """Asked in a process of its own: this one must hold no memory of the card."""
    question = "import jax; print(jax.default_backend())"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=120
    )
    return answer.stdout.strip() == "gpu"


def machine(commit: str | None) -> dict[str, Any]:
    def first_line(*command: str) -> str | None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except OSError:
            return None
        return done.stdout.strip().partition("\n")[0] or None

    versions = (
        "import importlib.metadata as m; print({p: m.version(p) for p in "
        "('jax', 'jaxlib', 'flax') if m.version(p)})"
    )
    query = "--query-gpu=name,driver_version,memory.total"
    return {
        "card": first_line("nvidia-smi", query, "--format=csv,noheader"),
        "versions": first_line(sys.executable, "-c", versions),
        "commit": commit or first_line("git", "rev-parse", "--short", "HEAD"),
    }


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Markdown, with a column for every key that a row has."""
    rows = list(rows)
    keys = list(dict.fromkeys(key for row in rows for key in row))

    def show(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [" | ".join(keys), " | ".join("---" for _ in keys)]
    lines += [" | ".join(show(row.get(key, "")) for key in keys) for row in rows]
    return [f"| {line} |" for line in lines]


LOCK = threading.Lock()


def write(out: Path, about: dict[str, Any], results: list[dict[str, Any]]) -> None:
    whole = {**about, "results": results}
    text = json.dumps(whole, indent=0)
    lines = ["# What this GPU showed", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    for found in results:
        failed = f", {found['failed']}" if "failed" in found else ""
        lines += ["", f"## {found['probe']} ({found['seconds']} s{failed})", ""]
        lines += table(found["rows"])
    with LOCK:
        (out / "gpu.json").write_text(text + "\n")
        (out / "gpu.md").write_text("\n".join(lines) + "\n")


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

    def left() -> float:
        return arguments.budget - (time.monotonic() - began)

    def take(probe: Probe, **environment: str) -> None:
        if left() < 5:
            print(f"{probe.name}: no time left")
            return
        results.append(run(probe, min(probe.seconds, left()), environment))
        write(arguments.out, about, results)

    def wanted(probes: list[Probe]) -> list[Probe]:
        only = arguments.only
        return [p for p in probes if not only or p.name.startswith(tuple(only))]

    if gpu:
        with ThreadPoolExecutor(len(CORRECTNESS)) as pool:
            share = partial(take, XLA_PYTHON_CLIENT_PREALLOCATE="false")
            list(pool.map(share, wanted(CORRECTNESS)))
        for probe in wanted(TIMES):
            take(probe)
    else:
        print("no GPU here: lowering for CUDA and simulating; nothing runs on hardware")
        small = ("--small",) if arguments.small else ()
        for probe in WITHOUT_A_GPU:
            take(probe._replace(arguments=(*probe.arguments, *small)), JAX_PLATFORMS="cpu")
    print(f"{arguments.out / 'gpu.md'}: {len(results)} probes")
    if any("failed" in found or not sound(found["rows"]) for found in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
