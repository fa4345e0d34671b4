"""Sentences to numbers and back: words, or parts of words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from jaxrnn.data import bpe

PAD, UNKNOWN, BEGIN, END = range(4)
MARKS = ("<pad>", "<unk>", "<s>", "</s>")

_WORDS = re.compile(r"\w+|'\w+|[^\w\s]")
_SPACED = re.compile(rf"{bpe.SPACE}?\w+|{bpe.SPACE}?[^\w{bpe.SPACE}]+|{bpe.SPACE}")


def words(sentence: str) -> list[str]:
    """The words, numbers and marks of a sentence, in small letters."""
    return _WORDS.findall(sentence.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one language.

    With `merges`, tokens are parts of words and `decode` gives the text back as it was;
    without, they are words in small letters, and `decode` puts spaces between them.
    """

    symbols: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_words(cls, sentences: Sequence[str], min_frequency: int) -> "Vocabulary":
        """Words seen `min_frequency` times or more, from frequent to rare."""
        counts = Counter(word for sentence in sentences for word in words(sentence))
        return cls((*MARKS, *_ordered(counts, min_frequency)))

    @classmethod
    def of_parts(cls, sentences: Sequence[str], size: int) -> "Vocabulary":
        """Byte pairs, with every character of the sentences that is seen twice."""
        counts = Counter(word for sentence in sentences for word in _spaced(sentence))
        letters = Counter()
        for word, count in counts.items():
            for letter in word:
                letters[letter] += count
        known = _ordered(letters, 2)
        merges = bpe.learn_merges(counts, max(0, size - len(MARKS) - len(known)))
        joined = dict.fromkeys(first + second for first, second in merges)
        return cls((*MARKS, *dict.fromkeys([*known, *joined])), tuple(merges))

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Vocabulary":
        merges = tuple((first, second) for first, second in stored["merges"])
        return cls(tuple(stored["symbols"]), merges)

    def as_json(self) -> dict[str, Any]:
        return {"symbols": self.symbols, "merges": self.merges}

    @property
    def size(self) -> int:
        return len(self.symbols)

    def encode(self, sentence: str) -> np.ndarray:
        """`[t]` int32, the mark of the end included."""
        unknown = UNKNOWN
        numbers = [self._numbers.get(part, unknown) for part in self.tokenise(sentence)]
        return np.array([*numbers, END], np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """The text up to the mark of the end."""
        symbols = self.read(tokens)
        if not self.merges:
            return " ".join(symbols)
        return "".join(symbols).replace(bpe.SPACE, " ").strip()

    def read(self, tokens: np.ndarray) -> list[str]:
        """The symbols up to the mark of the end."""
        ends = np.flatnonzero(np.asarray(tokens) == END)
        written = tokens[: ends[0]] if len(ends) else tokens
        return [self.symbols[number] for number in written]

    def tokenise(self, sentence: str) -> list[str]:
        if not self.merges:
            return words(sentence)
        return [part for word in _spaced(sentence) for part in self._split(word)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @cached_property
    def _split(self):
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        return lru_cache(maxsize=None)(lambda word: bpe.split(word, ranks))


def _spaced(sentence: str) -> list[str]:
    return _SPACED.findall(bpe.SPACE + bpe.SPACE.join(sentence.split()))


def _ordered(counts: Counter[str], least: int) -> list[str]:
    kept = [symbol for symbol, count in counts.items() if count >= least]
    return sorted(kept, key=lambda symbol: (-counts[symbol], symbol))
