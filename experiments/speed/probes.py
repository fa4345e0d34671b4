"""Probes: measurements that each run as a process of their own, and what they tell.

A probe prints rows as JSON lines. One that hangs is ended, and what it had shown before
is kept.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import markdown

PACKAGE = "experiments.speed"


class Probe(NamedTuple):
    """One process: `python -m experiments.speed.MODULE ARGUMENTS`."""

    name: str
    module: str
    arguments: Sequence[str] = ()
    flags: str = ""  # for XLA


def emit(**row: Any) -> None:
    """One result, at once, so that a probe that is stopped loses only what comes after."""
    print(json.dumps(row), flush=True)


def brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def run(probe: Probe, seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Its rows, its seconds and what went wrong, if anything did."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {probe.flags}".strip()
    command = [sys.executable, "-m", f"{PACKAGE}.{probe.module}", *probe.arguments]
    began, rows, noise = time.monotonic(), [], []
    process = subprocess.Popen(
        command,
        env={**os.environ, "XLA_FLAGS": flags, **environment},
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
    process.stdout.close()
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


def sound(results: Iterable[dict[str, Any]]) -> bool:
    """Whether no probe failed and no row says that it is not ok."""
    return not any(
        "failed" in found or any(row.get("ok") is False for row in found["rows"])
        for found in results
    )


def first_line(*command: str) -> str | None:
    """What a command says first, None where there is no such command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return None
    return done.stdout.strip().partition("\n")[0] or None


def processor() -> str:
    """What the processor calls itself, and how many cores it has here."""
    found = first_line("sed", "-n", "s/^model name\\t*: //p", "/proc/cpuinfo")
    return f"{found or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def commit() -> str | None:
    return first_line("git", "rev-parse", "--short", "HEAD")


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The lines of a table, with a column for every key that a row has."""
    rows = list(rows)
    keys = list(dict.fromkeys(key for row in rows for key in row))

    def show(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    cells = ([show(row.get(key, "")) for key in keys] for row in rows)
    return markdown.table(keys, cells).splitlines()


LOCK = threading.Lock()


def write(
    stem: Path,
    title: str,
    about: dict[str, Any],
    results: list[dict[str, Any]],
    body: list[str],
) -> None:
    """All results as JSON, and the lines of `body` under a title as Markdown."""
    text = json.dumps({**about, "results": results}, indent=0)
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in about.items())]
    with LOCK:
        stem.with_suffix(".json").write_text(text + "\n")
        stem.with_suffix(".md").write_text("\n".join([*lines, *body]) + "\n")
