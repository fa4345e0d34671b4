"""The tasks: how a sequence is drawn, what is asked of it, when an answer is wrong.

Numbers in the names are those of the experiments of Hochreiter & Schmidhuber 1997, from
which all are taken but the last two, of Bai et al. 2018.
"""

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .reber import SYMBOLS, draw_strings


class Example(NamedTuple):
    """One sequence. It may be shorter than T: what comes after its last scored step has no
    effect, since recurrences see no future."""

    xs: Array  # [T, D]
    targets: Any  # of each step, leaves [T, ...]
    scored: Array  # [T] bool  the steps at which there is a target


class Result(NamedTuple):
    """How a network did on one sequence."""

    loss: Array  # []  what is descended
    wrong: Array  # [] bool
    error: Array  # []  mean absolute error of the outputs at the scored steps


class Task(abc.ABC):
    """Subclasses are dataclasses of the task's sizes."""

    input_size: int
    output_size: int
    unit: str  # of the loss

    @abc.abstractmethod
    def draw(self, key: Array, trial: Array) -> Example:
        """One sequence to learn from. Trials differ in `key` alone unless the task says
        otherwise."""

    def test_set(self, key: Array, trial: Array, count: int) -> Example:
        """Sequences to test on, side by side: leaves `[count, T, ...]`."""
        return jax.vmap(lambda key: self.draw(key, trial))(jax.random.split(key, count))

    @abc.abstractmethod
    def judge(self, z: Array, example: Example) -> Result:
        """z `[T, output_size]`, the network's outputs before any squashing."""


class Squared(Task):
    """The loss is half the squared error of the outputs, logistic ones unless `outputs`
    says otherwise; an answer is wrong if any of them is off by `bound` or more at a
    scored step."""

    bound: float
    unit = "half squared error"

    def outputs(self, z: Array) -> Array:
        return jax.nn.sigmoid(z)

    def judge(self, z: Array, example: Example) -> Result:
        off = jnp.abs(self.outputs(z) - example.targets)
        off = jnp.where(example.scored[:, None], off, jnp.zeros_like(off))
        count = jnp.sum(example.scored).astype(off.dtype) * off.shape[-1]
        return Result(
            loss=0.5 * jnp.sum(jnp.square(off)),
            wrong=jnp.max(off) >= self.bound,
            error=jnp.sum(off) / count,
        )


@dataclass(frozen=True)
class EmbeddedReber(Squared):
    """Experiment 1: predict the next symbol of a string of the embedded Reber grammar.

    A third of the trials shares each of three pairs of a training and a test set, 256
    strings each. A string is wrong if somewhere a symbol that may not come next is as
    active as one that may; the test is on both sets, so `test_set` takes no key.

    With `cross_entropy` the loss is that of logistic outputs in place of the squared error,
    in nats: an output far on the wrong side of its logistic can still come back.
    """

    seed: int = 0
    size: int = 256
    pairs: int = 3
    cross_entropy: bool = False
    input_size = output_size = len(SYMBOLS)
    bound = 1.0

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "nats/string" if self.cross_entropy else super().unit

    @cached_property
    def examples(self) -> Example:
        """Leaves `[pairs, 2 size, T, ...]`, training strings first."""
        # In NumPy, since it is first asked for while JAX traces.
        strings = draw_strings(self.pairs * 2 * self.size, self.seed)
        one_hot = np.eye(len(SYMBOLS) + 1, len(SYMBOLS), dtype=np.float32)  # -1 is zeros
        xs, following = one_hot[strings.symbols[:, :-1]], one_hot[strings.symbols[:, 1:]]
        scored = strings.symbols[:, 1:] >= 0
        parts = jax.tree.map(
            lambda a: a.reshape(self.pairs, 2 * self.size, *a.shape[1:]),
            (xs, (following, strings.legal), scored),
        )
        return Example(*parts)

    def draw(self, key: Array, trial: Array) -> Example:
        which = jax.random.randint(key, (), 0, self.size)
        return jax.tree.map(
            lambda a: jnp.asarray(a)[trial % self.pairs, which], self.examples
        )

    def test_set(self, key: Array, trial: Array, count: int) -> Example:
        return jax.tree.map(lambda a: jnp.asarray(a)[trial % self.pairs], self.examples)

    def judge(self, z: Array, example: Example) -> Result:
        following, legal = example.targets
        result = super().judge(z, example._replace(targets=following))
        if self.cross_entropy:
            nats = jnp.sum(optax.sigmoid_binary_cross_entropy(z, following), axis=-1)
            loss = jnp.sum(jnp.where(example.scored, nats, jnp.zeros_like(nats)))
            result = result._replace(loss=loss)
        least = jnp.min(jnp.where(legal, z, jnp.inf), axis=-1)
        most = jnp.max(jnp.where(legal, -jnp.inf, z), axis=-1)
        return result._replace(wrong=jnp.any((least <= most) & example.scored))


@dataclass(frozen=True)
class TwoSequences(Squared):
    """Experiments 2a and 2b: predict the next symbol of (y, a_1, ..., a_p-1, y) or of
    (x, a_1, ..., a_p-1, x); p is `lag`.

    2a always has the same a's, so `test_set` is both sequences and takes no key. In 2b they
    are random, and only the last prediction, for which the first symbol has to be
    remembered, is asked for.
    """

    # Unlike the paper, whose networks predict every symbol of 2b. Their one state c only
    # rises, and of the outputs x and y, which tell by c in which sequence they are, one has
    # to fall with it: if on at the end of its sequence, it is on from the beginning. With
    # an error at every step, never to be on costs less.

    lag: int
    random: bool = False
    bound = 0.25

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.lag + 1

    @property
    def output_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.lag + 1

    def draw(self, key: Array, trial: Array) -> Example:
        which_key, between_key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, 2)
        middle = jnp.arange(self.lag - 1)
        if self.random:
            middle = jax.random.randint(between_key, middle.shape, 0, len(middle))
        return self._sequence(which, middle)

    def test_set(self, key: Array, trial: Array, count: int) -> Example:
        if self.random:
            return super().test_set(key, trial, count)
        middle = jnp.arange(self.lag - 1)
        return jax.vmap(lambda which: self._sequence(which, middle))(jnp.arange(2))

    def _sequence(self, which: Array, middle: Array) -> Example:
        first = (self.lag - 1 + which)[None]
        symbols = jnp.concatenate([first, middle, first])
        steps = jnp.arange(self.lag)
        return Example(
            xs=jax.nn.one_hot(symbols[:-1], self.input_size),
            targets=jax.nn.one_hot(symbols[1:], self.output_size),
            scored=steps == self.lag - 1 if self.random else steps >= 0,
        )


@dataclass(frozen=True)
class Distractors(Squared):
    """Experiment 2c: (b, x, ..., e, x) or (b, y, ..., e, y), with `lag` (the paper's q)
    or more of `symbols` (p) random symbols between; which one comes after e?

    After q of them each further one comes with probability 0.9, up to `most`, which the
    paper does not bound.
    """

    lag: int
    symbols: int
    most: int = 80
    output_size = 2
    bound = 0.2

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.symbols + 4

    def draw(self, key: Array, trial: Array) -> Example:
        keys = jax.random.split(key, 3)
        begin, end, x = self.symbols, self.symbols + 1, self.symbols + 2
        which = jax.random.randint(keys[0], (1,), 0, 2)
        goes_on = jax.random.bernoulli(keys[1], 0.9, (self.most,))
        between = self.lag + jnp.sum(jnp.cumprod(goes_on.astype(jnp.int32)))
        middle = jax.random.randint(keys[2], (self.lag + self.most + 1,), 0, self.symbols)
        middle = jnp.where(jnp.arange(len(middle)) == between, end, middle)
        symbols = jnp.concatenate([jnp.array([begin]), x + which, middle])
        return Example(
            xs=jax.nn.one_hot(symbols, self.input_size),
            targets=jnp.broadcast_to(jax.nn.one_hot(which, 2), (len(symbols), 2)),
            scored=jnp.arange(len(symbols)) == between + 2,
        )


@dataclass(frozen=True)
class NoisySequences(Squared):
    """Experiments 3a, 3b, 3c: is the start of a noisy sequence up or down (Bengio et al.
    1994)? The first `informative` (N) of `lag` (T) to 1.1 T numbers are 1 or -1, the rest
    is noise of variance 0.2.

    3b has the noise on the first ones too. 3c has targets 0.2 and 0.8 with noise of
    variance 0.1, is judged by the targets without it, and allows half the error.
    """

    lag: int
    informative: int
    noisy_inputs: bool = False
    noisy_targets: bool = False
    input_size = output_size = 1

    @property
    def bound(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.1 if self.noisy_targets else 0.2

    def draw(self, key: Array, trial: Array) -> Example:
        keys = jax.random.split(key, 4)
        length, longest = _length(keys[0], self.lag)
        up = jax.random.bernoulli(keys[1])
        noise = 0.2**0.5 * jax.random.normal(keys[2], (longest,))
        signal = jnp.where(up, 1.0, -1.0)
        at_start = jnp.arange(longest) < self.informative
        first = signal + noise if self.noisy_inputs else signal
        target = expected = jnp.where(up, 1.0, 0.0)
        if self.noisy_targets:
            expected = 0.2 + 0.6 * target
            target = expected + 0.1**0.5 * jax.random.normal(keys[3])
        steps = jnp.ones((longest, 1))
        return Example(
            xs=jnp.where(at_start, first, noise)[:, None],
            targets=(target * steps, expected * steps),
            scored=jnp.arange(longest) == length - 1,
        )

    def judge(self, z: Array, example: Example) -> Result:
        target, expected = example.targets
        descended = super().judge(z, example._replace(targets=target))
        judged = super().judge(z, example._replace(targets=expected))
        return judged._replace(loss=descended.loss)


@dataclass(frozen=True)
class Arithmetic(Squared):
    """Experiments 4 (adding) and 5 (multiplication): combine the two marked numbers of
    `lag` (T) to 1.1 T.

    Each step is a number and a marker: 1 at one of the first ten and at one more of the
    first T/2 - 1 steps, -1 at both ends, else 0. Adding: numbers in [-1, 1], the target is
    0.5 + (X_1 + X_2) / 4; multiplication: numbers in [0, 1], X_1 X_2. Should the first
    step be marked, X_1 is replaced by 0 or 1.

    The output is linear. The paper says that all are logistic, but a logistic one is
    hardly ever exact near the ends of the targets, 0 and 1: of ten trials at T = 100 none
    met the criterion within 214,000 sequences.
    """

    lag: int
    multiply: bool = False
    input_size, output_size = 2, 1
    bound = 0.04

    def outputs(self, z: Array) -> Array:
        return z

    def draw(self, key: Array, trial: Array) -> Example:
        keys = jax.random.split(key, 4)
        length, longest = _length(keys[0], self.lag)
        steps = jnp.arange(longest)
        first = jax.random.randint(keys[1], (), 0, 10)
        second = jax.random.randint(keys[2], (), 0, self.lag // 2 - 2)
        second += (second >= first).astype(second.dtype)  # one that is not yet marked
        low, neutral = (0.0, 1.0) if self.multiply else (-1.0, 0.0)
        values = jax.random.uniform(keys[3], (longest,), minval=low, maxval=1.0)
        marked = (steps == first) | (steps == second)
        ends = (steps == 0) | (steps == length - 1)
        markers = jnp.where(ends, -1.0, jnp.where(marked, 1.0, 0.0))
        one, other = (jnp.where(at == 0, neutral, values[at]) for at in (first, second))
        target = one * other if self.multiply else 0.5 + (one + other) / 4
        return Example(
            xs=jnp.stack([values, markers], axis=-1),
            targets=jnp.broadcast_to(target, (longest, 1)),
            scored=steps == length - 1,
        )


@dataclass(frozen=True)
class TemporalOrder(Squared):
    """Experiments 6a and 6b: in which order did X and Y come?

    Among 100 to 110 symbols, E first and B last, two (6a) or three (6b) are X or Y, all
    others random of a, b, c, d; there is a class for each order. `lag` stretches all
    positions from the paper's 100.
    """

    relevant: int  # 2 or 3
    lag: int = 100
    input_size = 8  # X, Y, a, b, c, d, E, B
    bound = 0.3

    @property
    def output_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2**self.relevant

    def draw(self, key: Array, trial: Array) -> Example:
        keys = jax.random.split(key, 4)
        length, longest = _length(keys[0], self.lag)
        starts = jnp.array({2: [10, 50], 3: [10, 33, 66]}[self.relevant]) * self.lag // 100
        spread = jax.random.randint(keys[1], starts.shape, 0, self.lag // 10 + 1)
        bits = jax.random.randint(keys[2], starts.shape, 0, 2)
        symbols = (
            jax.random.randint(keys[3], (longest,), 2, 6).at[starts + spread].set(bits)
        )
        symbols = symbols.at[0].set(6).at[length - 1].set(7)
        which = jnp.sum(bits * 2 ** jnp.arange(self.relevant))
        return Example(
            xs=jax.nn.one_hot(symbols, self.input_size),
            targets=jnp.broadcast_to(
                jax.nn.one_hot(which, self.output_size), (longest, self.output_size)
            ),
            scored=jnp.arange(longest) == length - 1,
        )


@dataclass(frozen=True)
class BaiAdding(Task):
    """Adding as in Bai et al. 2018: the sum of two of `lag` numbers in [0, 1], marked
    anywhere; outputs are linear, the loss is the squared error."""

    lag: int
    input_size, output_size = 2, 1
    unit = "squared error"

    def draw(self, key: Array, trial: Array) -> Example:
        value_key, place_key = jax.random.split(key)
        values = jax.random.uniform(value_key, (self.lag,))
        marked = jax.random.permutation(place_key, self.lag) < 2
        total = jnp.sum(jnp.where(marked, values, 0.0))
        return Example(
            xs=jnp.stack([values, marked.astype(values.dtype)], axis=-1),
            targets=jnp.broadcast_to(total, (self.lag, 1)),
            scored=jnp.arange(self.lag) == self.lag - 1,
        )

    def judge(self, z: Array, example: Example) -> Result:
        off = jnp.abs(z[-1, 0] - example.targets[-1, 0])
        return Result(loss=jnp.square(off), wrong=off >= 0.04, error=off)


@dataclass(frozen=True)
class BaiCopy(Task):
    """Copy memory as in Bai et al. 2018: ten symbols of 1 to 8, `lag` (T) steps later
    asked for by 9s; the input is the number itself, the loss the cross-entropy over ten
    classes, the mean of all T + 20 steps."""

    lag: int
    input_size, output_size = 1, 10
    unit = "nats/step"
    length = 10

    def draw(self, key: Array, trial: Array) -> Example:
        symbols = jax.random.randint(key, (self.length,), 1, 9)
        blank = jnp.zeros(self.lag - 1, symbols.dtype)
        asking = jnp.full(self.length + 1, 9, symbols.dtype)
        xs = jnp.concatenate([symbols, blank, asking])[:, None].astype(jnp.float32)
        targets = jnp.concatenate([jnp.zeros(self.lag + 10, symbols.dtype), symbols])
        return Example(xs, targets, jnp.ones(len(targets), bool))

    def judge(self, z: Array, example: Example) -> Result:
        nats = optax.softmax_cross_entropy_with_integer_labels(z, example.targets)
        missed = (jnp.argmax(z, axis=-1) != example.targets)[-self.length :]
        return Result(
            loss=jnp.mean(nats),
            wrong=jnp.any(missed),
            error=jnp.mean(missed.astype(z.dtype)),
        )


def _length(key: Array, lag: int) -> tuple[Array, int]:
    """A random length of `lag` to 1.1 `lag`, and the longest one."""
    longest = lag + lag // 10
    return jax.random.randint(key, (), lag, longest + 1), longest
