"""What one trial learns: a small network, sequences with a long time lag, a criterion."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

import jaxrnn
from jaxrnn.training.problem import Problem

from .config import Config
from .criteria import Criterion, Examined, Window
from .network import Network
from .tasks import (
    Arithmetic,
    BaiAdding,
    BaiCopy,
    Distractors,
    EmbeddedReber,
    NoisySequences,
    Task,
    TemporalOrder,
    TwoSequences,
)
from .transformer import TransformerNetwork

Model = Network | TransformerNetwork


class LongLag(Problem):
    """What one trial learns; `Trials` trains as many as a batch has rows, side by side.

    A batch is the numbers of the trials, `[trials]`: sequences are drawn where they are
    learned from. The carry counts the updates so far.
    """

    opened_by = "experiments.long_lag.run:Trained"

    def __init__(self, config: Config) -> None:
        config.check()
        self.config = config
        self.task, self.criterion = make_task(config)
        self.network = make_network(config, self.task)
        self.rows = config.trials
        self.unit = self.task.unit
        self.tokens_per_step = config.trials * config.updates_per_step * config.batch_size

    def init(self, key: Array) -> tuple[Any, Array]:
        return self.network.init(key), jnp.int32(0)

    def loss(
        self, params: Any, carry: Array, batch: Array, key: Array | None
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The mean over the sequences of an update; the metrics are those of the first one,
        which is answered before the update."""
        assert key is not None
        keys = jax.random.split(key, self.config.batch_size)
        examples = jax.vmap(lambda key: self.task.draw(key, batch))(keys)
        zs = self.network_after(carry)(params, jnp.moveaxis(examples.xs, 0, 1))
        results = jax.vmap(self.task.judge, in_axes=(1, 0))(zs, examples)
        first = jax.tree.map(lambda a: a[0], results)
        return jnp.mean(results.loss), carry + 1, first._asdict()

    def network_after(self, updates: Array) -> Any:
        """The network as it is after so many updates, at first without its cell."""
        if self.config.cell_from == 0:
            return self.network
        assert isinstance(self.network, Network)
        return replace(self.network, present=updates >= self.config.cell_from)

    def batch(self, step: int, rows: np.ndarray) -> np.ndarray:
        return np.arange(self.rows, dtype=np.int32)

    def batch_spec(self, array: Any) -> PartitionSpec:
        return PartitionSpec()

    carry_spec = batch_spec


def make_task(config: Config) -> tuple[Task, Criterion | None]:
    """The task and its published criterion; the two of Bai et al. have none."""
    lag, name = config.lag, config.problem
    in_a_row = Window(10_000, counted=False)
    match name:
        case "reber":
            crossed = config.loss == "cross-entropy"
            return EmbeddedReber(config.seed, cross_entropy=crossed), Examined(512)
        case "2a":
            return TwoSequences(lag), Examined(2)
        case "2b":
            return TwoSequences(lag, random=True), in_a_row
        case "2c":
            return Distractors(lag, config.symbols), in_a_row
        case "3a":
            return NoisySequences(lag, config.informative), Examined(256, error=0.01)
        case "3b":
            noisy = NoisySequences(lag, config.informative, noisy_inputs=True)
            return noisy, Examined(256, limit=6, error=0.04)
        case "3c":
            noisy = NoisySequences(lag, config.informative, True, noisy_targets=True)
            return noisy, Examined(256, error=0.015)
        case "adding":
            return Arithmetic(lag), Window(2000, error=0.01)
        case "multiplication":
            return Arithmetic(lag, multiply=True), Window(2000, limit=config.wrong)
        case "order2":
            return TemporalOrder(2, lag), Window(2000, error=0.1)
        case "order3":
            return TemporalOrder(3, lag), Window(2000, error=0.1)
        case "bai-adding":
            return BaiAdding(lag), None
        case "bai-copy":
            return BaiCopy(lag), None


def make_network(config: Config, task: Task) -> Model:
    """Raises ValueError if the sizes or biases do not fit."""
    if config.cell == "transformer":
        return TransformerNetwork(
            task.input_size,
            task.output_size,
            config.hidden_size,
            config.layers,
            config.heads,
        )
    sizes = task.input_size, config.hidden_size
    match config.cell:
        case "lstm1997":
            cell = jaxrnn.LSTM1997(
                *sizes,
                block_size=config.block_size,
                biases=config.biases,
                input_bias=config.input_bias or 0.0,
                output_bias=config.output_bias or 0.0,
                init_range=config.init_range,
                input_activation=config.input_activation,
                output_activation=config.output_activation,
                gradient=config.gradient,
            )
        case "carousel":
            cell = jaxrnn.Carousel(*sizes, init_range=config.init_range)
        case "lstm":
            cell = jaxrnn.LSTM(*sizes)
        case "gru":
            cell = jaxrnn.GRU(*sizes)
        case "elman":
            cell = jaxrnn.Elman(*sizes)
        case "mingru":
            cell = jaxrnn.MinGRU(*sizes)
    return Network(
        cell,
        task.output_size,
        sees_inputs=isinstance(task, TwoSequences),
        bias=config.readout_bias,
        init_range=config.init_range,
    )
