"""Everything that may befall a run, and the proof that it ends as if nothing had.

`make faults` tries all of it many times and prints the table of docs/promises.md;
`test_faults.py` tries each a few times. The oracle is always the same: the SHA-256 of the
final state and every byte of the log equal those of a run that nothing disturbed.
"""

import argparse
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import arena as moments
from arena import STEPS, Arena, Blow, command, command_after, result, rows, saved

from jaxrnn.training.store.digest import digest_leaf
from jaxrnn.training.store.saved_step import read_step
from jaxrnn.training.store.step_folders import step_folders


@dataclass(frozen=True)
class Outcome:
    """A row of the table: so many tried, all of them as promised, and what came of them."""

    fault: str
    tried: int
    came_of_it: str


class Broken(AssertionError):
    """A promise that was not kept."""


def hold(promise: bool, what: Any) -> None:
    if not promise:
        raise Broken(str(what))


class Faults:
    """The faults, each a method that tries it on runs of its own and returns an Outcome."""

    def __init__(self, home: Path, seed: int = 0) -> None:
        self.arena = Arena.create(home)
        self.draw = random.Random(seed)
        self._numbers = itertools.count()

    # What a run that nothing disturbed comes to.

    @cached_property
    def undisturbed(self) -> Path:
        return self.finish(self.new_run())

    def new_run(self) -> Path:
        return self.arena.home / f"run{next(self._numbers)}"

    def options(self, run_dir: Path, **changes: Any) -> list[str]:
        return self.arena.options(run_dir, **changes)

    def finish(
        self, run_dir: Path, *, poison: tuple[int, ...] = (), **changes: Any
    ) -> Path:
        """Starts or goes on to the end."""
        done = self.arena.start(self.options(run_dir, **changes), poison=poison)
        hold(done.returncode == 0, done.stderr)
        return run_dir

    def same_end(self, run_dir: Path, undisturbed: Path | None = None) -> None:
        other = undisturbed or self.undisturbed
        for figure in ("step", "state_sha256", "valid_loss", "test_loss", "best_step"):
            hold(result(run_dir)[figure] == result(other)[figure], (run_dir, figure))
        hold(rows(run_dir) == rows(other), f"{run_dir}/metrics.jsonl differs")

    def every_step_is_good(self, run_dir: Path) -> None:
        folders = step_folders(run_dir / "checkpoints")
        hold(0 < len(folders) <= 7, f"{len(folders)} steps in {run_dir}")
        for folder in folders.values():
            saved = read_step(folder)
            hold(int(saved.leaves["step"].data) == saved.meta["step"], folder)

    def nothing_is_left_over(self, run_dir: Path) -> None:
        left = [
            p.name for p in (run_dir / "checkpoints").iterdir() if not p.name.isdecimal()
        ]
        hold(not left, f"left over in {run_dir}: {left}")

    # The faults.

    def kills(self, count: int) -> Outcome:
        """kill -9, at a random moment and before a random change of a file in turn."""
        seconds, changes = self._extent()
        killed = finished = 0
        run_dir = self.new_run()
        while killed < count:
            if killed % 2:
                blow = Blow(
                    moments.FILE_CHANGE, self.draw.randint(1, changes), signal.SIGKILL
                )
            else:
                after = self.draw.uniform(0, seconds)
                blow = Blow(moments.SAVING, signal=signal.SIGKILL, seconds=after)
            ended = self.arena.start(self.options(run_dir, checkpoint_every=1), blow)
            if ended.returncode == 0:
                # The blow came too late for what was left to do.
                self.same_end(run_dir)
                self.nothing_is_left_over(run_dir)
                finished += 1
                run_dir = self.new_run()
                continue
            hold(ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), ended.stderr)
            killed += 1
            if (run_dir / "checkpoints").exists() and saved(run_dir) is not None:
                self.every_step_is_good(run_dir)
        self.same_end(self.finish(run_dir, checkpoint_every=1))
        self.nothing_is_left_over(run_dir)
        return Outcome(
            "kill -9 at a random moment, half of them just before a change of a file",
            killed,
            f"{killed} resumed, {finished + 1} runs ended with the same bits, "
            "every listed step restored, nothing left over",
        )

    def _extent(self) -> tuple[float, int]:
        """How long a run takes that saves at every step, and how many files it changes."""
        run_dir = self.new_run()
        never = Blow(moments.FILE_CHANGE, n=10**9, signal=signal.SIGKILL)
        ended = self.arena.start(self.options(run_dir, checkpoint_every=1), never)
        hold(ended.returncode == 0, ended.stderr)
        changes = re.search(r"(\d+) changes of files", ended.stderr)
        assert changes is not None
        return result(run_dir)["seconds"], int(changes[1])

    def signals(self) -> Outcome:
        """The three signals at every kind of moment of one run, one after the other."""
        run_dir = self.new_run()
        step, tried = 0, 0
        for number, moment, n, done in (
            (signal.SIGINT, moments.READING, 1, 0),
            (signal.SIGTERM, moments.COMPILING, 1, 1),
            (signal.SIGINT, moments.UPDATE, 3, 3),
            # The evaluation is cut short, done by the next start, and saved with its step.
            (signal.SIGTERM, moments.EVALUATION, 1, 6),
            (signal.SIGINT, moments.SAVING, 1, 0),
            (signal.SIGHUP, moments.SAVING, 1, 4),
            (signal.SIGTERM, moments.WRITING, 1, 7),
            (signal.SIGTERM, moments.UPDATE, 2, 2),
        ):
            stopped = self.arena.start(self.options(run_dir), Blow(moment, n, number))
            hold(stopped.returncode == 128 + number, stopped.stderr)
            hold("Traceback" not in stopped.stderr, stopped.stderr)
            step, tried = step + done, tried + 1
            told = f"stopped at step {step}; go on with: "
            hold(told in stopped.stdout, (told, stopped.stdout))
            hold(saved(run_dir) == step, (saved(run_dir), step))
            hold(not (run_dir / "result.json").exists(), "reported as ended")
        again = self.arena.shell(command_after("go on with:", stopped.stdout))
        hold(again.returncode == 0, again.stderr)
        self.same_end(run_dir)
        return Outcome(
            "SIGINT, SIGTERM, SIGHUP: reading, compiling, updating, evaluating, saving",
            tried,
            "saved at that step, exit 128 + signal, same bits by the command printed",
        )

    def second_signals(self) -> Outcome:
        """A second signal while the first one is being served."""
        run_dir = self.new_run()
        for first, second in (
            (
                Blow(moments.UPDATE, 1, signal.SIGTERM),
                Blow(moments.WRITING, 2, signal.SIGTERM),
            ),
            (
                Blow(moments.UPDATE, 2, signal.SIGINT),
                Blow(moments.SAVING, 1, signal.SIGTERM),
            ),
        ):
            ended = self.arena.start(self.options(run_dir), first, second)
            hold(ended.returncode == 128 + signal.SIGTERM, ended.stderr)
        self.same_end(self.finish(run_dir))
        return Outcome(
            "a second signal while the first is served", 2, "ended at once, same bits"
        )

    def damage(self, flips: int) -> Outcome:
        """Every file of the newest step cut or gone, and flipped bits."""
        checkpoints = self.undisturbed / "checkpoints"
        newest = checkpoints / str(saved(self.undisturbed))
        truth = digests(newest)
        files = sorted(p.relative_to(newest) for p in newest.rglob("*") if p.is_file())
        changes = [(name, change) for name in files for change in DAMAGES]
        sizes = [(newest / name).stat().st_size for name in files]
        for name in self.draw.choices(files, sizes, k=flips // 2):
            changes.append((name, self._flip))
        for name in self.draw.choices(files, k=flips - flips // 2):
            changes.append((name, self._flip))
        found = harmless = 0
        for name, change in changes:
            copy = self.arena.home / "damaged" / newest.name
            shutil.copytree(newest, copy)
            change(copy / name)
            try:
                read = digests(copy)
            except Exception:
                found += 1
            else:
                hold(read == truth, f"{change.__name__} of {name} went unnoticed")
                harmless += 1
            shutil.rmtree(copy.parent)
        return Outcome(
            f"newest step: every file truncated, emptied, removed, zero-tailed "
            f"({len(changes) - flips}); a bit flipped ({flips})",
            len(changes),
            f"{found} detected, {harmless} harmless (the same bits come back), 0 unnoticed",
        )

    def _flip(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        if content:
            bit = self.draw.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

    def damaged_runs(self, count: int) -> Outcome:
        """Runs that were stopped and damaged go on from an older step."""
        for _ in range(count):
            run_dir = self.new_run()
            self.arena.start(
                self.options(run_dir), Blow(moments.UPDATE, 17, signal.SIGTERM)
            )
            newest = run_dir / "checkpoints" / str(saved(run_dir))
            evidence = newest / "meta" / "metadata"
            evidence.write_bytes(damaged := evidence.read_bytes()[:-20])
            again = self.arena.start(self.options(run_dir))
            hold("is damaged and was moved to" in again.stderr, again.stderr)
            kept = (
                run_dir / "checkpoints" / "quarantine" / newest.name / "meta" / "metadata"
            )
            hold(kept.read_bytes() == damaged, "the evidence was changed")
            self.same_end(run_dir)
        return Outcome(
            "a run whose newest step is damaged", count, "loud, older step, same bits"
        )

    def odd_names(self, *names: str) -> Outcome:
        """Folders whose names mean more to libraries than to people."""
        (self.arena.home / "from here").mkdir(exist_ok=True)
        for name in names:
            run_dir = self.arena.home / "from here" / name
            self.arena.start(self.options(run_dir), Blow(moments.UPDATE, 9, signal.SIGTERM))
            hold(saved(run_dir) == 9, (run_dir, saved(run_dir)))
            self.same_end(self.finish(run_dir))
            self.every_step_is_good(run_dir)
            self.nothing_is_left_over(run_dir)
        return Outcome(
            f"a folder named {', '.join(f'`{name}`' for name in names)}",
            len(names),
            "stopped and resumed, same bits, every listed step restored",
        )

    def failing_reads(self, *numbers: int) -> Outcome:
        """Checkpoints that cannot be read, time and again and then for a while."""
        run_dir = self.new_run()
        self.arena.start(self.options(run_dir), Blow(moments.UPDATE, 9, signal.SIGTERM))
        for number in numbers:
            failed = self.arena.start(
                self.options(run_dir), Blow(moments.CHECKING, errno=number, times=10**9)
            )
            hold(failed.returncode == 2, failed.stderr)
            told = "cannot be read, which need not be damage: OSError: "
            hold(told in failed.stderr and failed.stderr.count("\n") == 1, failed.stderr)
            hold(saved(run_dir) == 9, saved(run_dir))
            self.nothing_is_left_over(run_dir)
        passing = self.arena.start(
            self.options(run_dir), Blow(moments.CHECKING, errno=errno.ESTALE, times=2)
        )
        hold((passing.returncode, passing.stderr) == (0, ""), passing.stderr)
        self.same_end(run_dir)
        return Outcome(
            f"checkpoints that cannot be read: {', '.join(map(os.strerror, numbers))}",
            len(numbers) + 1,
            "refused in one sentence, nothing in quarantine; tried again where it passed, "
            "same bits",
        )

    def full_disk(self) -> Outcome:
        """No room from the start, and no room from some update on."""
        changes = {"hidden_size": 64, "embedding_size": 64}
        undisturbed = self.finish(self.new_run(), **changes)
        run_dir = self.new_run()
        for blow in (
            Blow(moments.SAVING, 1, room=30_000),
            Blow(moments.UPDATE, 12, room=30_000),
        ):
            full = self.arena.start(self.options(run_dir, **changes), blow)
            # TensorStore may print that a loop is closed, after it and before.
            told = full.stderr.count(" could not be saved in ")
            hold(full.returncode == told == 1, full.stderr)
            hold(not (run_dir / "result.json").exists(), "reported as ended")
        hold(saved(run_dir) in (7, 10), saved(run_dir))
        self.every_step_is_good(run_dir)
        self.same_end(self.finish(run_dir, **changes), undisturbed)
        return Outcome(
            "a full disk, from the start and on the way",
            2,
            "exit 1 and one sentence, earlier steps good, same bits once there is room",
        )

    def two_writers(self) -> Outcome:
        run_dir = self.new_run()
        first = subprocess.Popen(
            command(self.options(run_dir, steps=100_000)),
            cwd=moments.ROOT,
            env=self.arena.environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: saved(run_dir) is not None)
            second = self.arena.start(self.options(run_dir, steps=100_000))
        finally:
            first.kill()
            first.wait()
        hold(second.returncode == 2, second.stderr)
        told = f"is being written to by process {first.pid} "
        hold(told in second.stderr and second.stderr.count("\n") == 1, second.stderr)
        stopped = self.arena.start(
            self.options(run_dir, steps=100_000), Blow(moments.UPDATE, 2, signal.SIGTERM)
        )
        hold(stopped.returncode == 128 + signal.SIGTERM, stopped.stderr)
        return Outcome(
            "a second writer, then the lock of a killed one",
            2,
            "refused with pid, host and start; taken over",
        )

    def bad_numbers(self, *policies: str) -> Outcome:
        """Poisoned batches, undisturbed and then killed and stopped; then what stops."""
        poison = (5, 6, 16)
        passed_over = {"skip": [5, 6, 16], "rollback": [1, 2, 3, 4, 5, 6, 15, 16]}
        for policy in policies:
            changes, skipped = {"on_nan": policy}, passed_over[policy]
            undisturbed = self.finish(self.new_run(), poison=poison, **changes)
            told = [json.loads(line) for line in rows(undisturbed).splitlines()]
            got = [row["step"] for row in told if "skipped" in row]
            hold(got == skipped, (got, skipped))
            run_dir = self.new_run()
            for blow in (
                Blow(moments.UPDATE, 9, signal.SIGTERM),
                Blow(moments.UPDATE, 9, signal.SIGKILL),
            ):
                self.arena.start(self.options(run_dir, **changes), blow, poison=poison)
            self.same_end(self.finish(run_dir, poison=poison, **changes), undisturbed)
        run_dir = self.new_run()
        stopped = self.arena.start(self.options(run_dir, on_nan="stop"), poison=poison)
        hold(stopped.returncode == 1, stopped.stderr)
        hold("step 5 is not finite" in stopped.stderr, stopped.stderr)
        hold(saved(run_dir) == 0, saved(run_dir))
        several = self.arena.start(self.options(run_dir, nan_limit=2), poison=poison)
        hold(several.returncode == 1 and "step 6" in several.stderr, several.stderr)
        return Outcome(
            f"batches of NaN: {', '.join(policies)}, stop; killed and stopped on the way",
            3 * len(policies) + 2,
            "counted and logged, never saved as latest or best, same bits as undisturbed",
        )

    def changed_world(self) -> Outcome:
        """Other options, other data, no data, another place."""
        run_dir = self.new_run()
        self.arena.start(self.options(run_dir), Blow(moments.UPDATE, 9, signal.SIGTERM))
        altered = self.arena.home / "altered.txt"
        altered.write_text(
            self.arena.text.read_text(encoding="utf-8") + "x", encoding="utf-8"
        )
        for changes, told in (
            ({"dropout": 0.2, "seed": 3}, "dropout was 0.1 and is now 0.2; seed was 0"),
            ({"data": altered}, "data_sha256 was "),
            ({"data": self.arena.home / "none.txt"}, "no data at"),
        ):
            refused = self.arena.start(self.options(run_dir, **changes))
            hold(refused.returncode == 2 and told in refused.stderr, refused.stderr)
            hold(refused.stderr.count("\n") == 1, refused.stderr)
        moved = run_dir.rename(self.arena.home / "moved elsewhere")
        self.same_end(self.finish(moved))
        rate = {"learning_rate": 0.01, "allow_change": "learning_rate", "steps": STEPS}
        self.finish(moved, **rate)
        history = (moved / "history.jsonl").read_text().splitlines()
        changed = json.loads(history[-1])["changed"]
        hold(changed == {"learning_rate": [0.003, 0.01]}, changed)
        return Outcome(
            "changed options and data, data gone, folder moved, an allowed change",
            5,
            "refused field by field; same bits; recorded in the history",
        )

    def devices(self, times: int, *counts: int) -> Outcome:
        """Other numbers of devices from start to start."""
        ends = []
        for _ in range(times):
            run_dir = self.new_run()
            for count in counts[:-1]:
                self.arena.start(
                    self.options(run_dir),
                    Blow(moments.UPDATE, 8, signal.SIGTERM),
                    XLA_FLAGS=f"--xla_force_host_platform_device_count={count}",
                )
            self.finish(run_dir)
            ends.append(run_dir)
        for again in ends[1:]:
            self.same_end(ends[0], again)
        difference = largest_difference(ends[0], self.undisturbed)
        hold(difference < 1e-4, f"losses differ by {difference}")
        return Outcome(
            f"{' -> '.join(map(str, counts))} devices",
            times,
            f"same samples, same bits every time; losses within {difference:.0e} of those "
            "of one device",
        )

    def processes(self, times: int) -> Outcome:
        """Alone, as two that are stopped by a signal to one of them, and alone again."""
        ends = []
        for _ in range(times):
            run_dir = self.new_run()
            self.arena.start(self.options(run_dir), Blow(moments.UPDATE, 8, signal.SIGTERM))
            both = self.arena.start_several(
                2, self.options(run_dir), Blow(moments.UPDATE, 8, signal.SIGTERM)
            )
            for process in both:
                hold(process.returncode == 128 + signal.SIGTERM, process.stderr)
            hold("stopped at step 18" in both[0].stdout, both[0].stdout)
            hold(saved(run_dir) == 18, saved(run_dir))
            self.finish(run_dir)
            ends.append(run_dir)
        for again in ends[1:]:
            self.same_end(ends[0], again)
        difference = largest_difference(ends[0], self.undisturbed)
        hold(difference < 1e-4, f"losses differ by {difference}")
        return Outcome(
            "1 -> 2 -> 1 processes, SIGTERM to one of the two",
            times,
            f"both saved the same step; same bits every time; losses within "
            f"{difference:.0e} of one process",
        )

    def killed_processes(self, count: int) -> Outcome:
        """kill -9 of one of two processes at random moments, their state in parts."""
        options = {"checkpoint_every": 1}

        def two(run_dir: Path, *blows: Blow) -> list[int]:
            arguments = [*self.options(run_dir, **options), "--fsdp"]
            struck = self.draw.randrange(2)
            ended = self.arena.start_several(2, arguments, *blows, struck=struck)
            return [process.returncode for process in ended]

        undisturbed, run_dir = self.new_run(), self.new_run()
        hold(two(undisturbed) == [0, 0], "could not train undisturbed")
        seconds = result(undisturbed)["seconds"]
        for _ in range(count):
            after = self.draw.uniform(0, seconds)
            codes = two(run_dir, Blow(moments.SAVING, signal=signal.SIGKILL, seconds=after))
            hold(0 not in codes or codes == [0, 0], codes)
            if saved(run_dir) is not None:
                self.every_step_is_good(run_dir)
        hold(two(run_dir) == [0, 0], "could not go on")
        self.same_end(run_dir, undisturbed)
        self.nothing_is_left_over(run_dir)
        return Outcome(
            "kill -9 of one of two processes whose state is in parts, at a random moment",
            count,
            "the other ends, every listed step restored, same bits, nothing left over",
        )

    def failing_processes(self, *failures: tuple[int, Blow, int]) -> Outcome:
        """One of two fails: which one, at what, and the exit code of both."""
        run_dir = self.new_run()
        self.arena.start(self.options(run_dir), Blow(moments.UPDATE, 9, signal.SIGTERM))
        for struck, blow, code in failures:
            both = self.arena.start_several(2, self.options(run_dir), blow, struck=struck)
            for index, process in enumerate(both):
                hold(process.returncode == code, process.stderr)
                told = (
                    os.strerror(blow.errno)
                    if index == struck
                    else f"process {struck} cannot go on; it says why"
                )
                hold(told in process.stderr, (told, process.stderr))
            hold(saved(run_dir) == 9, saved(run_dir))
            self.nothing_is_left_over(run_dir)
        self.same_end(self.finish(run_dir))
        return Outcome(
            "one of two processes cannot read its data, a checkpoint, or save",
            len(failures),
            "both end, each with a sentence, nothing in quarantine; same bits after",
        )


def digests(folder: Path) -> dict[str, str]:
    return {path: digest_leaf(leaf) for path, leaf in read_step(folder).leaves.items()}


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def zero_tailed(path: Path) -> None:
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))


PASSING = (errno.ESTALE, errno.EMFILE, errno.EIO)

# Of two processes: one cannot read a checkpoint, its data, or save.
FAILURES = (
    (0, Blow(moments.CHECKING, errno=errno.ESTALE, times=10**9), 2),
    (1, Blow(moments.PARSING, errno=errno.ESTALE, times=10**9), 2),
    (1, Blow(moments.READING, errno=errno.EIO), 2),
    (0, Blow(moments.WRITING, errno=errno.ENOSPC), 1),
    (1, Blow(moments.SHARING, errno=errno.ENOSPC), 1),
)

ODD_NAMES = ("cell=[lstm,gru]", "a\\b", "a*b?", "50% #1", "../Größe")

DAMAGES: tuple[Callable[[Path], None], ...] = (truncated, emptied, removed, zero_tailed)


def losses(run_dir: Path) -> list[float]:
    lines = (json.loads(line) for line in rows(run_dir).splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def largest_difference(one: Path, other: Path) -> float:
    pairs = zip(losses(one), losses(other), strict=True)
    return max(abs(a - b) for a, b in pairs)


def wait_for(happens: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happens():
        hold(time.monotonic() < end, "it took too long")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    broken = 0
    print("| what befell the run | tried | what came of it |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        faults = Faults(Path(home), told.seed)
        for fault in (
            lambda: faults.kills(told.kills),
            lambda: faults.damage(told.flips),
            lambda: faults.damaged_runs(3),
            faults.signals,
            faults.second_signals,
            lambda: faults.odd_names(*ODD_NAMES),
            lambda: faults.failing_reads(*PASSING),
            faults.full_disk,
            faults.two_writers,
            lambda: faults.bad_numbers("skip", "rollback"),
            faults.changed_world,
            lambda: faults.devices(2, 1, 2, 4, 1),
            lambda: faults.processes(2),
            lambda: faults.failing_processes(*FAILURES),
            lambda: faults.killed_processes(5),
        ):
            try:
                outcome = fault()
            except Broken as promise:
                broken += 1
                print(f"BROKEN: {promise}", flush=True)
            else:
                print(
                    f"| {outcome.fault} | {outcome.tried} | {outcome.came_of_it} |",
                    flush=True,
                )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
