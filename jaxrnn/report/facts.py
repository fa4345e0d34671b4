"""What runs were asked to do, by what, how fast, and what they saved."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxrnn.report.markup import paragraph, table
from jaxrnn.report.record import Record
from jaxrnn.training.verify import checked

RESULTS = ("unit", "step", "best_step", "skipped_steps", "state_sha256")
MEGABYTE = 1e6


def compared(caption: str, records: Sequence[Record], of: Callable[[Record], dict]) -> str:
    """A table with a column a run and a row a name; the rows in which runs differ first."""
    columns = [of(record) for record in records]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(name, *(column.get(name) for column in columns)) for name in names]
    rows.sort(key=lambda row: len(set(map(repr, row[1:]))) == 1)
    return table(caption, ["", *(record.name for record in records)], rows)


def results(records: Sequence[Record]) -> str:
    """How far they came, and what was measured."""
    return compared("Results", records, result_of)


def result_of(record: Record) -> dict[str, Any]:
    result = record.result
    steps = record.config.get("steps")
    if not result:
        evaluations = [row for row in record.rows if "valid_loss" in row]
        last = evaluations[-1] if evaluations else {}
        told = {
            "state": f"at step {record.step} of {steps}: it trains still, or was stopped",
            "last evaluation": last.get("step"),
        }
        return told | {name: x for name, x in last.items() if name.startswith("valid_")}
    measured = {
        name: x for name, x in result.items() if name.startswith(("valid_", "test_"))
    }
    state = f"ended after step {result.get('step')} of {steps}"
    return {"state": state} | measured | {name: result.get(name) for name in RESULTS}


def speed_and_memory(records: Sequence[Record]) -> str:
    return compared("Speed and memory", records, speed_of)


def speed_of(record: Record) -> dict[str, Any]:
    result = record.result
    told: dict[str, Any] = {"parameters": result.get("parameters")}
    seconds = result.get("seconds")
    if seconds:
        told |= {
            "tokens per second": f"{result['tokens_per_second']:,.0f}",
            "steps per second": result["step"] / seconds,
            "seconds, with evaluations and saving": seconds,
        }
    for name in ("host", "device"):
        if peak := result.get(f"{name}_peak_bytes"):
            told[f"peak memory of the {name}, MB"] = peak / MEGABYTE
    for start in record.starts[-1:]:
        told |= {"devices": start.get("devices"), "processes": start.get("processes")}
    return told


def configurations(records: Sequence[Record]) -> str:
    return compared("Configuration", records, lambda record: record.config)


def versions(records: Sequence[Record]) -> str:
    """What the runs were trained with, and each time that they were started."""

    def versions_of(record: Record) -> dict[str, Any]:
        newest = record.starts[-1] if record.starts else {}
        return {"python": newest.get("python")} | newest.get("versions", {})

    rows = [
        (record.name, start.get("time"), start["step"], changes(start))
        for record in records
        for start in record.starts
    ]
    head = ["run", "time", "from step", "changed options"]
    return compared("Versions", records, versions_of) + table("Starts", head, rows)


def changes(start: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: {was!r}, now {now!r}"
        for name, (was, now) in start.get("changed", {}).items()
    )


def checkpoints(records: Sequence[Record]) -> str:
    """Every saved step, read whole and held to its digests."""
    rows = [
        (
            record.name,
            one.step,
            one.verdict,
            one.arrays,
            None if one.bytes is None else f"{one.bytes / MEGABYTE:.1f}",
            one.loss,
        )
        for record in records
        for one in checked(record.path)
    ]
    if not rows:
        return paragraph("No step is saved yet.")
    head = ["run", "step", "verified", "arrays", "MB", "validation loss"]
    aside = [
        (record.name, str(folder.relative_to(record.path)))
        for record in records
        for folder in sorted((record.path / "checkpoints").glob("quarantine/*"))
    ]
    told = table("Checkpoints", head, rows)
    if aside:
        told += table("Damaged, set aside earlier", ["run", "folder"], aside)
    return told
