"""What is learned and how it is measured, and nothing of how it is trained."""

import abc
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxrnn.training.mesh import DATA

# What was measured: a sum, and what it is the sum of so many of.
Sum = tuple[Any, Any]


class Problem(abc.ABC):
    """What is learned and how it is measured: all that differs between experiments.

    A subclass says how parameters and carry begin, what the loss of a batch is, and which
    batch a step learns from; `evaluation` and `measure`, if there is more than the training
    loss to be told. `Trainer` learns it, `Run` keeps that in a folder.
    """

    rows: int  # of a batch, over all devices
    unit: str = "nats"  # what the losses are counted in, such as "nats/character"
    decides: str = "loss"  # the validation figure that is lowest where params are best
    tokens_per_step: int | None = None  # what speed is told in, instead of rows
    # What a run rests on beside its options: digests of the data, for one.
    fingerprint: Mapping[str, Any] = MappingProxyType({})
    # What `jaxrnn.load` opens a run with: a class derived from `Opened`, "module:Class".
    opened_by: str | None = None
    # Texts to keep in the run's folder, by file name: the tokenizer, for one.
    files: Mapping[str, str] = MappingProxyType({})

    @abc.abstractmethod
    def init(self, key: Array) -> tuple[Any, Any]:
        """(params, carry) before the first step: a pure function of `key`.

        The carry, a tree of arrays `[rows, ...]`, is what a step hands to the next one, of
        truncated backpropagation through time for one; () where batches are independent.
        """

    @abc.abstractmethod
    def loss(
        self, params: Any, carry: Any, batch: Any, key: Array | None
    ) -> tuple[Array, Any, dict[str, Array]]:
        """(loss, carry after the batch, metrics) of one batch; a pure function.

        The loss is a mean over the batch, the metrics are means to be logged beside it.
        Noise, such as dropout's, is drawn from `key`; without one there is none.
        """

    @abc.abstractmethod
    def batch(self, step: int, rows: np.ndarray) -> Any:
        """The batch of step `step`, from 0 on: a pure function of it.

        A tree of NumPy arrays that lie on the mesh as `batch_spec` says: of all the rows
        of the batch those numbered `rows` `[n]`, which are all unless there are several
        processes.
        """

    def weight(self, batch: Any) -> Array:
        """[] How much the mean of a part of a batch counts beside those of the others: what
        `loss` is the mean of so many of, such as tokens. All count the same unless told."""
        return jnp.float32(1)

    def rate(self, batch: Any) -> Array | int:
        """[] The part of the learning rate that a batch is learned with, such as a shorter
        one's; all of it, 1, unless told."""
        return 1

    def batch_spec(self, array: Any) -> PartitionSpec:
        """Along which axis the devices share an array of a batch: `[T, rows, ...]` along
        the second one, `[rows]` along the only one."""
        return PartitionSpec(DATA) if array.ndim == 1 else PartitionSpec(None, DATA)

    def carry_spec(self, array: Any) -> PartitionSpec:
        """Along which axis the devices share an array of the carry: the first one.

        An array that all rows share, such as running statistics, has PartitionSpec().
        """
        return PartitionSpec(DATA)

    def evaluation(self, split: str) -> Sequence[Any] | None:
        """The batches to measure on of the split "valid" or "test"; None if there is none.

        They are whole, in the processes as in one alone.
        """
        return None

    def evaluation_carry(self, params: Any) -> Any:
        """The carry before the first batch of an evaluation; () where there is none."""
        return ()

    def measure(self, params: Any, carry: Any, batch: Any) -> tuple[dict[str, Sum], Any]:
        """({name: (sum, count)}, carry after the batch); a pure function.

        A figure is the sum over all batches by the count over all batches.
        """
        loss, carry, metrics = self.loss(params, carry, batch, None)
        return {
            name: (value, 1) for name, value in {"loss": loss, **metrics}.items()
        }, carry

    def sample(self, params: Any) -> str | None:
        """A few lines that the model says, kept with every evaluation; a pure function of
        `params`, which lie on one device. None where it says nothing."""
        return None

    def figures(self, means: dict[str, np.ndarray]) -> dict[str, Any]:
        """What is told of the means of a whole evaluation."""
        return {name: float(mean) for name, mean in means.items()}

    def deciding(self, figures: Mapping[str, float]) -> float:
        """Of an evaluation's figures the one that `decides`; raises ValueError for none."""
        if self.decides not in figures:
            raise ValueError(
                f"the problem is decided by {self.decides!r}, and its evaluation gives "
                f"only {', '.join(map(repr, figures)) or 'nothing'}"
            )
        return figures[self.decides]
