"""Tokens that are parts of words, for texts of any size: byte pairs, by `tokenizers`."""

import json
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.files import read_json
from jaxrnn.data.pieces import characters, pieces_of, whole_words
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.extras import require

BYTES = 256

# The library keeps hundreds of texts that it learns from, and much of each token that it
# makes, so each text that it is given is short.
AT_ONCE = 1 << 16  # bytes


@dataclass(frozen=True)
class Subwords:
    """Byte pair encoding over bytes: nothing is unknown, and text comes back as it was.

    (Sennrich et al. 2016; over bytes: Radford et al. 2019.) `definition` is the JSON of the
    library `tokenizers`, which the extra `text` brings. Tokens are as those of a
    `jaxrnn.data.tokenizer.Tokenizer`.
    """

    definition: str

    kind = "bpe"

    @classmethod
    def learn(cls, pieces: Iterable[bytes], size: int) -> "Subwords":
        """`size` tokens, or fewer where the text has no more pairs, from UTF-8 in pieces.

        Raises ValueError if `size` is less than the 256 bytes, ImportError without the
        library.
        """
        if size < BYTES:
            raise ValueError(f"bpe needs a vocabulary of {BYTES} or more, got {size}")
        require("tokenizers", "text")
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        made: Any = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        made.train_from_iterator(_texts(pieces, "strict"), trainer=trainer)
        return cls(made.to_str())

    def as_json(self) -> str:
        stored = {"kind": self.kind, "library": json.loads(self.definition)}
        return json.dumps(stored, ensure_ascii=False, indent=0)

    @property
    def size(self) -> int:
        return self._made.get_vocab_size()

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds the vocabulary."""
        return np.min_scalar_type(self.size - 1)

    def encode(self, text: bytes) -> np.ndarray:
        """`[N]` of `dtype`."""
        return np.concatenate([np.empty(0, self.dtype), *self.stream(pieces_of(text))])

    def stream(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        """The tokens of a text in pieces: joined, they are those of the text in one; what
        is not UTF-8 is replaced."""
        for text in _texts(pieces, "replace"):
            yield np.array(self._made.encode_batch_fast([text])[0].ids, self.dtype)

    def count_unknown(self, tokens: np.ndarray) -> int:
        return 0

    def unseen(self, text: bytes) -> Counter[str]:
        """None: every byte is known."""
        return Counter()

    def about_unseen(self, text: bytes) -> str:
        return ""

    def decode(self, tokens: np.ndarray) -> str:
        return b"".join(map(self._bytes.__getitem__, tokens)).decode(errors="replace")

    def spell(self, tokens: np.ndarray) -> list[str]:
        """The text of each token; a character stands at the last of those it is made of."""
        decoder = getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(self._bytes[token]) for token in tokens]

    @cached_property
    def _made(self) -> Any:
        require("tokenizers", "text")
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    @cached_property
    def _bytes(self) -> list[bytes]:
        """What each token stands for."""
        letters = _bytes_of_letters()
        names = map(self._made.id_to_token, range(self.size))
        return [bytes(map(letters.__getitem__, name)) for name in names]


AnyTokenizer = Tokenizer | Subwords


def load_tokenizer(path: Path) -> AnyTokenizer:
    """Of whichever kind the file is; raises ValueError if it is none of a tokenizer."""
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("kind") != Subwords.kind:
        return Tokenizer.load(path)
    if not isinstance(stored.get("library"), dict):
        raise ValueError(f"{path} holds no tokenizer")
    return Subwords(json.dumps(stored["library"], ensure_ascii=False))


def _texts(pieces: Iterable[bytes], errors: str) -> Iterator[str]:
    little = (part for piece in pieces for part in pieces_of(piece, AT_ONCE))
    return whole_words(characters(little, errors))


def _bytes_of_letters() -> dict[str, int]:
    """The byte that a letter of the vocabulary stands for: itself where it is printed, and
    the others in their order from 256 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(BYTES) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {
        chr(BYTES + number): byte for number, byte in enumerate(others)
    }
