"""A problem of your own as a run: progress, resume, metrics, result and picture."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn import GRU
from jaxrnn.models import Pure, SequenceModel
from jaxrnn.training import Options, Problem, train


class Waves(Problem):
    """Predict the next value of noisy waves, each from those before it."""

    rows, unit = 16, "squared error"

    def __init__(self):
        self.model = Pure(lambda key: SequenceModel([GRU(1, 32)], 1, rngs=nnx.Rngs(key)))

    def init(self, key):
        return self.model.init(key), ()

    def loss(self, params, carry, batch, key):
        _, predicted = self.model(params)(batch[:-1], key=key)
        return jnp.mean((predicted - batch[1:]) ** 2), carry, {}

    def batch(self, step, rows):  # [T, B, 1], a pure function of the step
        draw = np.random.default_rng(step)
        phases, noise = draw.uniform(0, 6, (16, 1)), draw.normal(0, 0.1, (40, 16, 1))
        waves = np.sin(np.arange(40)[:, None, None] / 3 + phases) + noise
        return waves[:, rows].astype(np.float32)

    def evaluation(self, split):
        first = {"valid": 10**6, "test": 10**7}[split]
        return [self.batch(first + n, np.arange(16)) for n in range(4)]


options = Options(Path("runs/waves"), steps=300, learning_rate=1e-2, eval_every=100)
train(options, lambda: options.make_trainer(Waves()))
