"""Problems that ask for a state to be kept over any length (see Delétang et al. 2023).

Each is a sequence of symbols and, after every one of them, what is to be told of the
symbols so far. So one sequence of T symbols asks T questions, of the lengths 1 to T.
"""

import abc
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import ClassVar, NamedTuple

import numpy as np

NO_LABEL = -1


class Drawn(NamedTuple):
    symbols: np.ndarray  # [T, rows] int32
    labels: np.ndarray  # [T, rows] int32, NO_LABEL where nothing is asked


@dataclass(frozen=True)
class Task(abc.ABC):
    symbols: ClassVar[int]  # the number of them
    classes: ClassVar[int]  # the number of different answers

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        """Sequences of `length` symbols, drawn alike and apart."""


@dataclass(frozen=True)
class Parity(Task):
    """Is the number of ones odd?"""

    symbols, classes = 2, 2

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        bits = random.integers(2, size=(length, rows), dtype=np.int32)
        return Drawn(bits, np.cumsum(bits, axis=0, dtype=np.int32) % 2)


@dataclass(frozen=True)
class EvenPairs(Task):
    """Is the number of neighbours that differ even? That is: do the ends agree?"""

    symbols, classes = 2, 2

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        bits = random.integers(2, size=(length, rows), dtype=np.int32)
        return Drawn(bits, (bits == bits[0]).astype(np.int32))


@dataclass(frozen=True)
class CycleNavigation(Task):
    """Where on a circle of five places is one who stays, or goes one forwards or back?"""

    symbols, classes = 3, 5

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        moves = random.integers(3, size=(length, rows), dtype=np.int32)
        ways = np.array([0, 1, -1], np.int32)[moves]
        return Drawn(moves, np.cumsum(ways, axis=0, dtype=np.int32) % 5)


@dataclass(frozen=True)
class ModularArithmetic(Task):
    """The value modulo 5 of digits with +, - and * between them, products first.

    Asked after every digit. The symbols are 0 to 4, then the three signs.
    """

    symbols, classes = 8, 5

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        digits = random.integers(5, size=(length, rows), dtype=np.int32)
        signs = random.integers(3, size=(length, rows), dtype=np.int32)
        is_digit = (np.arange(length) % 2 == 0)[:, None]
        labels = np.full((length, rows), NO_LABEL, np.int32)
        total, term = np.zeros(rows, np.int32), digits[0]
        labels[0] = term
        for t in range(2, length, 2):
            plus, minus, times = (signs[t - 1] == sign for sign in range(3))
            total = np.where(times, total, total + term) % 5
            digit = digits[t]
            term = np.select([plus, minus, times], [digit, -digit, term * digit]) % 5
            labels[t] = (total + term) % 5
        return Drawn(np.where(is_digit, digits, 5 + signs), labels)


@dataclass(frozen=True)
class WordProblem(Task):
    """The product of permutations of five things, each a symbol (Merrill et al. 2024).

    Of the even ones alone the group is A5, of all of them S5: no linear recurrence with a
    diagonal matrix, and no Transformer of fixed depth, follows either over any length.
    """

    even: ClassVar[bool]

    @cached_property
    def table(self) -> np.ndarray:
        """`[n, n]` int32: the number of the first permutation after the second."""
        all_of_them = list(permutations(range(5)))
        some = [p for p in all_of_them if not self.even or is_even(p)]
        number = {p: n for n, p in enumerate(some)}
        return np.array(
            [[number[tuple(a[b[i]] for i in range(5))] for b in some] for a in some],
            np.int32,
        )

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        size = (length, rows)
        words = random.integers(self.symbols, size=size, dtype=np.int32)
        products = words.copy()
        for t in range(1, length):
            products[t] = self.table[words[t], products[t - 1]]
        return Drawn(words, products)


@dataclass(frozen=True)
class A5(WordProblem):
    even, symbols, classes = True, 60, 60


@dataclass(frozen=True)
class S5(WordProblem):
    even, symbols, classes = False, 120, 120


def is_even(permutation: tuple[int, ...]) -> bool:
    pairs = ((a, b) for i, a in enumerate(permutation) for b in permutation[i + 1 :])
    return sum(a > b for a, b in pairs) % 2 == 0


@dataclass(frozen=True)
class Dyck(Task):
    """Which of two kinds of bracket is to be closed next, up to three open (Dyck-(2, 3)).

    The symbols open the first and the second kind, then close them; the answer is 0 where
    none is open, else the kind.
    """

    symbols, classes = 4, 3
    deepest: int = 3

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        kinds = random.integers(2, size=(length, rows), dtype=np.int32)
        opens = random.integers(2, size=(length, rows)).astype(bool)
        stack = np.zeros((self.deepest + 1, rows), np.int32)  # its lowest place stays empty
        depth, row = np.zeros(rows, int), np.arange(rows)
        symbols = np.empty((length, rows), np.int32)
        labels = np.empty((length, rows), np.int32)
        for t in range(length):
            opening = (depth == 0) | (opens[t] & (depth < self.deepest))
            symbols[t] = np.where(opening, kinds[t], 2 + stack[depth, row] - 1)
            depth = np.where(opening, depth + 1, depth - 1)
            stack[depth, row] = np.where(opening, kinds[t] + 1, stack[depth, row])
            labels[t] = stack[depth, row]
        return Drawn(symbols, labels)


@dataclass(frozen=True)
class SelectiveCopying(Task):
    """Sixteen symbols scattered among blanks, to be told in order at the end.

    What linear recurrences are good at (Gu & Dao 2023). The last sixteen steps, of a symbol
    of their own, ask for one symbol each.
    """

    symbols, classes = 18, 16
    count: int = 16

    def draw(self, random: np.random.Generator, length: int, rows: int) -> Drawn:
        before = length - self.count
        if before < self.count:
            raise ValueError(
                f"selective copying needs a length of {2 * self.count} or more, got "
                f"{length}"
            )
        told = random.integers(16, size=(self.count, rows), dtype=np.int32)
        shuffled = random.random((before, rows)).argsort(axis=0)
        places = np.sort(shuffled[: self.count], axis=0)

        symbols = np.full((length, rows), 16, np.int32)
        symbols[places, np.arange(rows)] = told
        symbols[before:] = 17
        labels = np.full((length, rows), NO_LABEL, np.int32)
        labels[before:] = told
        return Drawn(symbols, labels)


TASKS: dict[str, Task] = {
    "parity": Parity(),
    "even-pairs": EvenPairs(),
    "cycle-navigation": CycleNavigation(),
    "modular-arithmetic": ModularArithmetic(),
    "a5": A5(),
    "s5": S5(),
    "dyck": Dyck(),
    "selective-copying": SelectiveCopying(),
}
