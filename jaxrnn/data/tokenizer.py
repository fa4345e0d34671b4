"""Tokens of text: characters, bytes or words to numbers and back."""

import json
import sys
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxrnn.data.files import read_json
from jaxrnn.data.pieces import characters, code_points, pieces_of, whole_words

KINDS = "character", "byte", "word"
UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"

# So many different words are counted at once where only the most frequent are wanted.
DIFFERENT = 1 << 20
CODE_POINTS = sys.maxunicode + 1


@dataclass(frozen=True)
class Tokenizer:
    """Characters, bytes or words to numbers and back.

    Words are what white space separates, and every end of a line is the word `<eos>`.
    What was not seen in training is `<unk>`. Raises ValueError for any other kind.
    """

    kind: str
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a tokenizer is of {' or '.join(KINDS)}, got {self.kind!r}")

    @classmethod
    def of(cls, kind: str, text: bytes, at_least: int = 1) -> "Tokenizer":
        """The tokenizer of a training text, its symbols from frequent to rare; those seen
        fewer than `at_least` times are unknown."""
        return cls.learn(kind, pieces_of(text), at_least)

    @classmethod
    def learn(
        cls,
        kind: str,
        pieces: Iterable[bytes],
        at_least: int = 1,
        at_most: int | None = None,
    ) -> "Tokenizer":
        """That of a text in pieces, with the `at_most` most frequent symbols, `<unk>` one
        of them.

        With `at_most` the memory is bounded too: of words that are rare wherever more than
        a million different ones are met, one may be missed (lossy counting: Manku &
        Motwani 2002). Raises ValueError if `at_most` is below 1.
        """
        if at_most is not None and at_most < 1:
            raise ValueError(f"a vocabulary has 1 symbol or more, got {at_most}")
        if kind == "byte":
            return cls(kind)
        texts = characters(pieces)
        if kind == "character":
            counts = _count_characters(texts)
        else:
            counts = _count_words(texts, None if at_most is None else DIFFERENT)
        known = {symbol for symbol, n in counts.items() if n >= at_least} | {UNKNOWN}
        ordered = sorted(known, key=lambda symbol: (-counts[symbol], symbol))
        if at_most is not None and UNKNOWN not in ordered[:at_most]:
            ordered[at_most - 1 : at_most] = [UNKNOWN]
        return cls(kind, tuple(ordered[:at_most]))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Raises ValueError if the file is none of a tokenizer."""
        stored = read_json(path)
        try:
            return cls(stored["kind"], tuple(stored["symbols"]))
        except (KeyError, TypeError):
            raise ValueError(f"{path} holds no tokenizer") from None

    def as_json(self) -> str:
        stored = {"kind": self.kind, "symbols": self.symbols}
        return json.dumps(stored, ensure_ascii=False, indent=0)

    @property
    def size(self) -> int:
        return 256 if self.kind == "byte" else len(self.symbols)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each symbol."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @property
    def unknown(self) -> int:
        """The number of what was not seen in training; of bytes, the one no text has."""
        return 0 if self.kind == "byte" else self.numbers[UNKNOWN]

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds the vocabulary."""
        return np.min_scalar_type(self.size - 1)

    def encode(self, text: bytes) -> np.ndarray:
        """`[N]` of `dtype`."""
        if self.kind == "byte":
            return np.frombuffer(text, np.uint8)
        return np.concatenate([np.empty(0, self.dtype), *self.stream(pieces_of(text))])

    def stream(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        """The tokens of a text in pieces: joined, they are those of the text in one."""
        if self.kind == "byte":
            for piece in pieces:
                yield np.frombuffer(piece, np.uint8)
        # Bytes that are no text are symbols too, which no training text has.
        elif self.kind == "character":
            for text in characters(pieces, "surrogateescape"):
                yield self._table[code_points(text)]
        else:
            for text in whole_words(characters(pieces, "surrogateescape")):
                numbers = (self.numbers.get(word, self.unknown) for word in _words(text))
                yield np.fromiter(numbers, self.dtype)

    def count_unknown(self, tokens: np.ndarray) -> int:
        return 0 if self.kind == "byte" else int((tokens == self.unknown).sum())

    def unseen(self, text: bytes) -> Counter[str]:
        """The symbols of a text that were not seen in training, and how often each is
        there; a symbol that reads `<unk>` itself is none of them."""
        if self.kind == "byte":
            return Counter()
        texts = characters(pieces_of(text), "surrogateescape")
        if self.kind == "character":
            new = (self._new_characters(text) for text in texts)
        else:
            words = (_words(text) for text in whole_words(texts))
            new = ((w for w in some if w not in self.numbers) for some in words)
        return Counter(symbol for some in new for symbol in some)

    def about_unseen(self, text: bytes) -> str:
        """A clause on the symbols of a text that were not seen in training, if any."""
        unseen = self.unseen(text)
        if not unseen:
            return ""
        shown = ", ".join(repr(name) for name, _ in unseen.most_common(5))
        more = ", ..." if len(unseen) > 5 else ""
        return (
            f"{unseen.total()} {self.kind}(s) not seen in training are read as {UNKNOWN}: "
            f"{shown}{more}"
        )

    def decode(self, tokens: np.ndarray) -> str:
        if self.kind == "byte":
            return bytes(tokens.astype(np.uint8)).decode(errors="replace")
        text = "".join(self.spell(tokens))
        if self.kind == "word":
            return text.replace(" \n", "\n").removesuffix(" ")
        return text

    def spell(self, tokens: np.ndarray) -> list[str]:
        """The text of each token, with the space or line end after a word; of bytes a
        character stands at the last of those it is made of."""
        if self.kind == "byte":
            decoder = getincrementaldecoder("utf-8")("replace")
            return [decoder.decode(bytes([token])) for token in tokens]
        symbols = [self.symbols[number] for number in tokens]
        if self.kind == "character":
            return symbols
        return ["\n" if symbol == END_OF_LINE else f"{symbol} " for symbol in symbols]

    @cached_property
    def _table(self) -> np.ndarray:
        """`[CODE_POINTS]`: the number of every character."""
        table = np.full(CODE_POINTS, self.unknown, self.dtype)
        for symbol, number in self.numbers.items():
            if symbol != UNKNOWN:
                table[ord(symbol)] = number
        return table

    def _new_characters(self, text: str) -> str:
        codes = code_points(text)
        new = codes[self._table[codes] == self.unknown]
        return new.tobytes().decode("utf-32-le", "surrogatepass")


def _words(text: str) -> list[str]:
    return text.replace("\n", f" {END_OF_LINE} ").split()


def _count_characters(texts: Iterable[str]) -> Counter[str]:
    counts = np.zeros(CODE_POINTS, np.int64)
    for text in texts:
        codes, times = np.unique_counts(code_points(text))
        counts[codes] += times
    seen = np.flatnonzero(counts)
    return Counter(dict(zip(map(chr, seen), counts[seen].tolist(), strict=True)))


def _count_words(texts: Iterable[str], different: int | None) -> Counter[str]:
    """Of at most so many `different` words at once: the rarest are dropped beyond."""
    counts: Counter[str] = Counter()
    rare = 0
    for text in whole_words(texts):
        counts.update(_words(text))
        while different is not None and len(counts) > different:
            rare += 1
            counts = Counter({word: n for word, n in counts.items() if n > rare})
    return counts
