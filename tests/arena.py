"""Runs of the language model as users start them, each in a process of its own.

A run takes `Blow`s from within, by `struck.py`, at moments that do not depend on how fast
the machine is: before the nth call of a function or the nth change of a file.
"""

import json
import os
import random
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrnn.training.store.step_folders import step_folders

ROOT = Path(__file__).parent.parent
STEPS = 30

# The moments of a run, as functions that it calls.
READING = "jaxrnn.data.tokenizer:Tokenizer.as_json"
COMPILING = "experiments.language_model.problem:NextToken._read"
UPDATE = "jaxrnn.data.lanes:TokenLanes.batch"
EVALUATION = "jaxrnn.training.trainer:Trainer.evaluate"
SAVING = "jaxrnn.training.store.checkpoint:CheckpointStore.save"
WRITING = "orbax.checkpoint:CheckpointManager.save"
SHARING = "jaxrnn.training.store.checkpoint:write_share"
CHECKING = "jaxrnn.training.store.file_list:digest_files"
PARSING = "jaxrnn.training.store.saved_step:parse_meta"
FILE_CHANGE = "a change of a file in the run's folder"


@dataclass(frozen=True)
class Blow:
    """A signal, an error, or no more room for files beyond `room` bytes, at a moment."""

    moment: str
    n: int = 1  # before the nth call or change
    signal: int = 0
    errno: int = 0
    times: int = 1  # at so many calls or changes on end
    room: int = 0
    seconds: float | None = None  # so long after the first call instead


@dataclass(frozen=True)
class Arena:
    """A folder with a text to learn, and the environment in which to learn it."""

    home: Path
    environment: dict[str, str]

    @classmethod
    def create(cls, home: Path) -> "Arena":
        words = "the cat sat on a mat and then one small dog ran far away é ☕".split()
        lines = (" ".join(random.Random(n).choices(words, k=8)) for n in range(300))
        (home / "text.txt").write_text("\n".join(lines), encoding="utf-8")
        return cls(
            home,
            os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "JAX_ENABLE_COMPILATION_CACHE": "true",
                "JAX_COMPILATION_CACHE_DIR": str(home / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                # Compiled as users compile, unlike the rest of the tests.
                "XLA_FLAGS": "",
            },
        )

    @property
    def text(self) -> Path:
        return self.home / "text.txt"

    def options(self, run_dir: Path, **changes: Any) -> list[str]:
        values = {
            "data": self.text,
            "run_dir": run_dir,
            "steps": STEPS,
            "hidden_size": 4,
            "eval_every": 10,
            "checkpoint_every": 7,
            "log_every": 3,
            "sample_length": 20,
        } | changes
        named = ((f"--{name.replace('_', '-')}", str(x)) for name, x in values.items())
        return ["tiny", *(word for pair in named for word in pair)]

    def shell(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment | environment,
        )

    def start(
        self,
        arguments: list[str],
        *blows: Blow,
        poison: tuple[int, ...] = (),
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Starts training and waits for its end."""
        return self.shell(
            shlex.join(command(arguments, *blows, poison=poison)), **environment
        )

    def start_several(
        self, count: int, arguments: list[str], *blows: Blow, struck: int = 1
    ) -> list[subprocess.CompletedProcess[str]]:
        """The same in `count` processes together; one is `struck` by the blows."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
        arguments = [*arguments, "--distributed"]
        started = []
        for index in range(count):
            taken = blows if index == struck else ()
            started.append(
                subprocess.Popen(
                    command(arguments, *taken),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                    env=self.environment | together | {"JAX_PROCESS_ID": str(index)},
                )
            )
        ended = []
        for process in started:
            out, errors = process.communicate(timeout=300)
            ended.append(
                subprocess.CompletedProcess(process.args, process.returncode, out, errors)
            )
        return ended


def command(arguments: list[str], *blows: Blow, poison: tuple[int, ...] = ()) -> list[str]:
    if not blows and not poison:
        return ["python", "-m", "experiments.language_model.train", *arguments]
    told = {"blows": [vars(blow) for blow in blows], "poison": poison}
    return ["python", "tests/struck.py", json.dumps(told), *arguments]


def saved(run_dir: Path) -> int | None:
    """The newest step on disk."""
    return max(step_folders(run_dir / "checkpoints"), default=None)


def result(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


def rows(run_dir: Path) -> bytes:
    return (run_dir / "metrics.jsonl").read_bytes()


def command_after(words: str, output: str) -> str:
    (line,) = [line for line in output.splitlines() if words in line]
    return line.partition(words)[2].strip()
