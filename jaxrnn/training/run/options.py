"""The options that all training runs share; an experiment adds its own."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrnn.training.mesh import make_mesh, read_mesh
from jaxrnn.training.optimiser import (
    Optimiser,
    make_plateau,
    make_schedule,
    make_transform,
    matrices,
)
from jaxrnn.training.problem import Problem
from jaxrnn.training.products import MatmulPrecision
from jaxrnn.training.run.loop import Plan
from jaxrnn.training.trainer import Trainer


@dataclass(frozen=True)
class Options:
    """How a run is kept, trained, measured and guarded: the command line's flat options.

    Paths may be given as texts, and numbers as those of NumPy, or whole ones for floats:
    they are kept as what a file of JSON gives back. Raises ValueError for an option that
    is none of its choices, and for a part of a number where a whole one is wanted.
    """

    run_dir: Path = Path("runs/run")
    """Where the run is kept; the same folder again goes on where it stopped."""
    data: Path | None = None
    """A file or a folder. A relative path is looked for from here, then in the folder
    that JAXRNN_DATA names."""
    init_from: Path | None = None
    """The folder of a run of the same sizes: begin with its best parameters, and with its
    vocabulary where there is one, to train them on (fine-tuning)."""
    resume: Literal["auto", "never", "must"] = "auto"
    """What to do with a run that is already in the folder."""
    allow_change: tuple[str, ...] = ()
    """Options in which the run may differ from how it began; kept in its history."""
    distributed: bool = False
    """One of several processes, which find each other as jax.distributed does, or by
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."""
    report: bool = True
    """Write report.html at the end, where the extra `report` is installed."""
    log_to: Literal["tensorboard"] | None = None
    """Write what is logged for TensorBoard too, into the folder tensorboard of the run."""
    traceback: bool = False
    """Show where an error was raised, not only its sentence."""
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrices are multiplied in; parameters, optimiser, gates, carries, softmax and
    all sums over time are float32."""
    matmul_precision: MatmulPrecision = "default"
    """How exactly matrices of float32 are multiplied: as JAX is set, which on a TPU rounds
    them to bfloat16 and on a GPU to TF32; high; or highest, as a CPU does."""

    steps: int = 1000
    batch_size: int = 32
    """Sequences, or lanes of text, side by side."""
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    """Of sgd and rmsprop."""
    beta1: float = 0.9
    """Of adam and adamw: the decay of the gradient's mean."""
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "constant"
    warmup: float = 0.0
    """The share of the steps in which the learning rate grows, linearly."""
    decay_begin: int = 1
    """stairs: the step of the first decay."""
    decay_every: int = 1
    """stairs: steps between decays."""
    decay: float = 0.5
    """stairs, plateau: the factor of each decay."""
    decay_patience: int = 1
    """plateau: evaluations without a gain before a decay."""
    decay_threshold: float = 1e-4
    """plateau: the share of the best loss that is a gain."""
    weight_decay: float = 0.0
    weight_decay_of: Literal["matrices", "all"] = "matrices"
    """What weight_decay shrinks: parameters of two axes or more, so no biases, gains and
    peepholes, or all of them."""
    clip: float = 1.0
    """The largest norm of the gradient; inf for any."""
    loss_factor: float = 1.0
    """Times the mean loss is what is descended and clipped: the steps or tokens that a
    recipe adds up where this takes their mean."""
    accumulate: int = 1
    """Learn from a batch in so many parts, one after the other, with the memory of one."""
    mesh: str | None = None
    """How the devices share the work, as data=4,model=2: the rows of a batch along data,
    the units of cells along model. All along data if not told."""
    fsdp: bool = False
    """Keep parameters and optimiser in parts, one on each device, not only one for each
    along model."""
    average: float = 0.0
    """Evaluate a moving average of the parameters, with this decay a step; 0 for none.
    Where training began has no part in it."""
    average_after: int | None = None
    """Evaluate the mean of the parameters over the steps since an evaluation was worse than
    the best of those before the last so many (NT-ASGD); over all steps if 0."""

    on_nan: Literal["skip", "stop", "rollback"] = "skip"
    """When a loss, gradient or carry is not finite: pass over that batch, stop, or go
    back to the last regular checkpoint and pass over all batches since."""
    nan_limit: int = 10
    """Stop after so many batches passed over in a row (skip), or so many ways back."""
    skip_batches: tuple[str, ...] = ()
    """Steps to pass over, as FIRST:LAST, both included, numbered as in metrics.jsonl."""

    eval_every: int = 500
    eval_batches: int | None = None
    """Evaluate and test on so many batches only, instead of all; the figures then come with
    the share of the batches that they were measured on."""
    checkpoint_every: int = 500
    log_every: int = 50
    patience: int | None = None
    """Stop after so many evaluations without a better one."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = as_plain(getattr(self, field.name))
            if field.type in (Path, Path | None) and value is not None:
                value = Path(value)
            elif field.type in (float, float | None) and isinstance(value, int):
                value = float(value)
            elif field.type in (int, int | None) and isinstance(value, float):
                if not value.is_integer():
                    raise ValueError(f"{field.name} must be a whole number, got {value}")
                value = int(value)
            known = choices(field.type)
            if known and value not in known:
                named = ", ".join(map(str, known))
                raise ValueError(f"unknown {field.name} {value!r}; known: {named}")
            object.__setattr__(self, field.name, value)

    @property
    def before(self) -> dict[str, Any]:
        """What runs of versions that lacked an option were trained with."""
        before = {
            "init_from": None,
            "eval_batches": None,
            "weight_decay_of": "all",
            "accumulate": 1,
            "precision": "float32",
            "matmul_precision": "default",
            "average_after": None,
            "beta1": 0.9,
            "decay_threshold": 1e-4,
            "loss_factor": 1.0,
        }
        return before | ({"average_from": "initial parameters"} if self.average else {})

    @property
    def free(self) -> frozenset[str]:
        """The options that may differ between starts: they change no bit of the result or,
        as the number of devices does, the order of sums alone."""
        free = {
            "run_dir",
            "data",
            "resume",
            "allow_change",
            "distributed",
            "fsdp",
            "mesh",
            "report",
            "log_to",
            "traceback",
            "log_every",
            "on_nan",
            "nan_limit",
            "skip_batches",
        }
        if self.on_nan != "rollback":
            free.add("checkpoint_every")
        if not self.weight_decay:
            free.add("weight_decay_of")
        return frozenset(free)

    @property
    def halt_after(self) -> int:
        """The batches in a row that are not finite after which the state is frozen.

        Raises ValueError for a limit below 1.
        """
        if self.nan_limit < 1:
            raise ValueError(f"nan_limit must be 1 or more, got {self.nan_limit}")
        return self.nan_limit if self.on_nan == "skip" else 1

    @property
    def devices(self) -> Mesh:
        """Raises ValueError for a mesh of other devices than there are."""
        return make_mesh() if self.mesh is None else read_mesh(self.mesh)

    def plan(self) -> Plan:
        """Raises ValueError for numbers out of range."""
        return Plan(
            steps=self.steps,
            eval_every=self.eval_every,
            checkpoint_every=self.checkpoint_every,
            log_every=self.log_every,
            patience=self.patience,
        )

    def make_trainer(self, problem: Problem) -> Trainer:
        """Raises ValueError for numbers out of range."""
        return Trainer(problem, *self.make_optimiser(), **self.trainer_options())

    def trainer_options(self) -> dict[str, Any]:
        """What a `Trainer` takes beside its problem and optimiser."""
        return {
            "halt_after": self.halt_after,
            "average": self.average,
            "average_after": self.average_after,
            "accumulate": self.accumulate,
            "eval_batches": self.eval_batches,
            "fsdp": self.fsdp,
            "matmul_precision": self.matmul_precision,
            "mesh": self.devices,
        }

    def make_optimiser(self, updates_per_step: int = 1) -> Optimiser:
        """With a schedule in steps of `updates_per_step` updates each.

        Raises ValueError for numbers out of range.
        """
        schedule = make_schedule(
            self.schedule,
            self.learning_rate,
            steps=self.steps,
            warmup=int(self.warmup * self.steps),
            decay_begin=self.decay_begin,
            decay_every=self.decay_every,
            decay=self.decay,
        )
        plateau = None
        if self.schedule == "plateau":
            plateau = make_plateau(self.decay, self.decay_patience, self.decay_threshold)
        transform = make_transform(
            self.optimiser,
            lambda updates: schedule(jnp.asarray(updates) // updates_per_step),
            self.weight_decay,
            self.clip,
            self.momentum,
            decayed=matrices if self.weight_decay_of == "matrices" else None,
            beta1=self.beta1,
            loss_factor=self.loss_factor,
        )
        return Optimiser(transform, schedule, plateau)


def choices(kind: Any) -> tuple[Any, ...]:
    """The values that a type of `Literal` has; none for any other type."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    parts = [part for part in get_args(kind) if get_origin(part) is Literal]
    return (*get_args(parts[0]), None) if parts else ()


def as_plain(value: Any) -> Any:
    """A number of NumPy or JAX as one of Python, a list as a tuple; all else as it is."""
    if isinstance(value, list | tuple):
        return tuple(map(as_plain, value))
    if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0:
        return value.item()
    return value
