"""Learning to keep a state: trained on short sequences, asked at long ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

import jaxrnn
from jaxrnn.cell import Cell
from jaxrnn.models import CausalTransformer, Pure, SequenceModel
from jaxrnn.models.cells import make_layers
from jaxrnn.training.problem import Problem, Sum

from .config import Config
from .tasks import NO_LABEL, TASKS, Drawn

ROWS = 64  # of a batch that is measured
BATCHES = {"valid": 2, "test": 8}


class StateTracking(Problem):
    """The mean nats of an answer, asked after every symbol; decided by the share of wrong
    ones at the lengths that were not trained on."""

    unit = "nats/answer"
    decides = "error"
    opened_by = "experiments.state_tracking.run:Trained"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.task = TASKS[config.task]
        self.model = make_model(config)
        self.rows = config.batch_size
        self.tokens_per_step = config.batch_size * config.length

    def init(self, key: Array) -> tuple[Any, tuple]:
        return self.model.init(key), ()

    def loss(
        self, params: Any, carry: tuple, batch: Drawn, key: Array | None
    ) -> tuple[Array, tuple, dict[str, Array]]:
        nats, right, asked = self.answers(params, batch)
        count = jnp.sum(asked, dtype=nats.dtype)
        return jnp.sum(nats) / count, carry, {"accuracy": jnp.sum(right) / count}

    def weight(self, batch: Drawn) -> Array:
        return jnp.sum(batch.labels != NO_LABEL, dtype=jnp.float32)

    def batch(self, step: int, rows: np.ndarray) -> Drawn:
        random = np.random.default_rng([self.config.seed, step])
        symbols, labels = self.task.draw(random, self.config.length, self.rows)
        return Drawn(symbols[:, rows], labels[:, rows])

    def evaluation(self, split: str) -> Sequence[Drawn]:
        """The same sequences whatever the seed of the run."""
        draws = np.random.default_rng([1, *split.encode()]).spawn(BATCHES[split])
        return [self.task.draw(random, self.config.asked, ROWS) for random in draws]

    def measure(
        self, params: Any, carry: tuple, batch: Drawn
    ) -> tuple[dict[str, Sum], tuple]:
        nats, right, asked = self.answers(params, batch)
        trained, beyond = slice(0, self.config.length), self.beyond
        sums = {
            "loss": (jnp.sum(nats), jnp.sum(asked)),
            "error": (jnp.sum(asked[beyond] & ~right[beyond]), jnp.sum(asked[beyond])),
            "accuracy": (jnp.sum(right[beyond]), jnp.sum(asked[beyond])),
            "accuracy_as_trained": (jnp.sum(right[trained]), jnp.sum(asked[trained])),
        }
        return sums, carry

    @property
    def beyond(self) -> slice:
        """The lengths beyond those trained on; all of them where there are none."""
        config = self.config
        return slice(config.length if config.asked > config.length else 0, config.asked)

    def answers(self, params: Any, batch: Drawn) -> tuple[Array, Array, Array]:
        """`[T, B]` each: nats, whether the likeliest answer is right, whether one is asked
        for at all; the first two are zero where none is."""
        xs = jax.nn.one_hot(batch.symbols, self.task.symbols)
        _, logits = self.model(params)(xs)
        asked = batch.labels != NO_LABEL
        labels = jnp.where(asked, batch.labels, 0)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        right = asked & (jnp.argmax(logits, axis=-1) == labels)
        return jnp.where(asked, nats, 0), right, asked


def make_problem(config: Config) -> StateTracking:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    return StateTracking(config)


def make_model(config: Config) -> Pure[SequenceModel | CausalTransformer]:
    task = TASKS[config.task]
    size, outputs = config.hidden_size, task.classes
    if config.cell == "transformer":
        return Pure(
            lambda key: CausalTransformer(
                task.symbols,
                outputs,
                size,
                layers=config.layers,
                heads=config.heads,
                feed_forward=4 * size,
                precision=config.precision,
                rngs=nnx.Rngs(params=key),
            )
        )
    layers = make_layers(
        make_cell(config), config.layers, task.symbols, size, precision=config.precision
    )
    return Pure(
        lambda key: SequenceModel(
            layers, outputs, precision=config.precision, rngs=nnx.Rngs(params=key)
        )
    )


def make_cell(config: Config) -> str | Callable[[int, int], Cell]:
    if config.cell != "deltanet":
        return config.cell
    return partial(
        jaxrnn.DeltaNet,
        householders=config.householders,
        beta_max={"[0, 1]": 1.0, "[-1, 1]": 2.0}[config.eigenvalues],
    )
