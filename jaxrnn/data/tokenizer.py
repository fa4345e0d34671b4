"""Tokens of text: characters, bytes or words to numbers and back."""

import json
from codecs import getincrementaldecoder
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxrnn.data.files import read_json

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"


@dataclass(frozen=True)
class Tokenizer:
    """Characters, bytes or words to numbers and back.

    Words are what white space separates, and every end of a line is the word `<eos>`.
    What was not seen in training is `<unk>`.
    """

    kind: str
    symbols: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, text: bytes, at_least: int = 1) -> "Tokenizer":
        """The tokenizer of a training text, its symbols from frequent to rare; those seen
        fewer than `at_least` times are unknown."""
        if kind == "byte":
            return cls(kind)
        counts = Counter(_split(kind, text.decode()))
        known = {symbol for symbol, n in counts.items() if n >= at_least} | {UNKNOWN}
        ordered = sorted(known, key=lambda symbol: (-counts[symbol], symbol))
        return cls(kind, tuple(ordered))

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

    def encode(self, text: bytes) -> np.ndarray:
        """`[N]`, in the smallest unsigned type that holds the vocabulary."""
        dtype = np.min_scalar_type(self.size - 1)
        if self.kind == "byte":
            return np.frombuffer(text, np.uint8)
        numbers = (self.numbers.get(name, self.unknown) for name in self._symbols_of(text))
        return np.fromiter(numbers, dtype)

    def unseen(self, text: bytes) -> Counter[str]:
        """The symbols of a text that were not seen in training, and how often each is
        there; a symbol that reads `<unk>` itself is none of them."""
        if self.kind == "byte":
            return Counter()
        return Counter(name for name in self._symbols_of(text) if name not in self.numbers)

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

    def _symbols_of(self, text: bytes) -> list[str] | str:
        """Bytes that are no text are symbols too, which no training text has."""
        return _split(self.kind, text.decode("utf-8", "surrogateescape"))


def _split(kind: str, text: str) -> list[str] | str:
    if kind == "character":
        return text
    return text.replace("\n", f" {END_OF_LINE} ").split()
