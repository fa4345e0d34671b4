"""Tokens on disk, as many as there are, to map into memory: each block under a digest.

A split's tokens lie in `NAME-00000.tokens`, `NAME-00001.tokens`, ..., little-endian, and
the SHA-256 of each block of them, 32 bytes a block, in `NAME.sha256`.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

DIGEST = 32  # bytes of a SHA-256


class AlteredData(OSError):
    """What is read is not what was written."""


@dataclass(frozen=True)
class Layout:
    """How the tokens of one split lie in a folder."""

    folder: Path
    split: str
    dtype: str  # such as "<u2"
    tokens: int = 0
    block: int = 1 << 16  # tokens under one digest
    shard: int = 1 << 28  # tokens in one file: whole blocks

    def file(self, number: int) -> Path:
        return self.folder / f"{self.split}-{number:05}.tokens"

    @property
    def digests(self) -> Path:
        return self.folder / f"{self.split}.sha256"

    @property
    def shards(self) -> dict[Path, int]:
        """The bytes of tokens in each file."""
        width = np.dtype(self.dtype).itemsize
        return {
            self.file(number): width * min(self.shard, self.tokens - start)
            for number, start in enumerate(range(0, self.tokens, self.shard))
        }

    @property
    def blocks(self) -> int:
        return -(-self.tokens // self.block)

    def blocks_of(self, shard: int) -> range:
        each = self.shard // self.block
        return range(shard * each, min((shard + 1) * each, self.blocks))

    @property
    def sizes(self) -> dict[Path, int]:
        """The bytes in each file, that of the digests included."""
        return self.shards | {self.digests: DIGEST * self.blocks}

    def described(self) -> dict[str, Any]:
        """What `Layout(folder, split, **described)` takes."""
        described = asdict(self)
        del described["folder"], described["split"]
        return described


class Tokens:
    """The tokens `[N]` of a split, read where they are asked for: `tokens[indices]`.

    A block is held to its digest before the first token of it is given out. Raises
    AlteredData where it is another.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.dtype = np.dtype(layout.dtype).newbyteorder("=")
        self._good = np.zeros(layout.blocks, bool)

    def __len__(self) -> int:
        return self.layout.tokens

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Of whole numbers from 0 on, in an array of any shape."""
        blocks = indices // self.layout.block
        for number in np.unique(blocks[~self._good[blocks]]):
            self.check(number)
        shards, places = np.divmod(indices, self.layout.shard)
        read = np.empty(indices.shape, self.dtype)
        for number in np.unique(shards):
            there = shards == number
            read[there] = self._shards[number][places[there]]
        return read

    def check(self, number: int) -> None:
        """Raises AlteredData unless block `number` is as it was written."""
        first = int(number) * self.layout.block
        shard, start = divmod(first, self.layout.shard)
        block = self._shards[shard][start : start + self.layout.block]
        if hashlib.sha256(block.data).digest() != self._digests[number].tobytes():
            raise AlteredData(
                f"{self.layout.file(shard)} was altered: of its tokens, those from {start} "
                "on have another SHA-256 than when they were prepared; copy the file anew "
                "or prepare the text again"
            )
        self._good[number] = True

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [np.memmap(path, self.layout.dtype, "r") for path in self.layout.shards]

    @cached_property
    def _digests(self) -> np.ndarray:
        digests = np.memmap(self.layout.digests, np.uint8, "r")
        return digests.reshape(-1, DIGEST)


def write_tokens(layout: Layout, arrays: Iterable[np.ndarray]) -> Layout:
    """Writes the tokens of all arrays; returns `layout` with their number."""
    blocks = _in_blocks(arrays, layout.block)
    written = number = 0
    with lasting(layout.digests) as digests:
        while (first := next(blocks, None)) is not None:
            with lasting(layout.file(number)) as file:
                for block in chain(
                    [first], islice(blocks, layout.shard // layout.block - 1)
                ):
                    content = block.astype(layout.dtype).tobytes()
                    file.write(content)
                    digests.write(hashlib.sha256(content).digest())
                    written += len(block)
            number += 1
    return replace(layout, tokens=written)


def _in_blocks(arrays: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same numbers in arrays of `size`, and a last one of what is left."""
    rest: list[np.ndarray] = []
    for array in arrays:
        rest.append(array)
        if sum(map(len, rest)) >= size:
            joined = np.concatenate(rest)
            whole = len(joined) // size * size
            yield from joined[:whole].reshape(-1, size)
            rest = [joined[whole:]]
    if any(map(len, rest)):
        yield np.concatenate(rest)


@contextmanager
def lasting(path: Path) -> Iterator[IO[bytes]]:
    """A new file, on the disk when it is closed."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
