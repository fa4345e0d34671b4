"""Pairs of sentences: where they come from and how they are split."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrnn.training.data_files import locate, read_bytes

SPLITS = ("train", "valid", "test")
_MULTI30K = {"train": "train", "valid": "val", "test": "test_2016_flickr"}


class Pairs(NamedTuple):
    """Sentences and what they are translated to, one for one."""

    source: list[str]
    target: list[str]

    def as_bytes(self) -> bytes:
        return "\n".join(map("\t".join, zip(*self, strict=True))).encode()


def read_pairs(corpus: str, data: Path | None) -> dict[str, Pairs]:
    """The pairs of each split; raises ValueError if they are not there."""
    if corpus == "reversal":
        return {name: _reversal(number) for number, name in enumerate(SPLITS)}
    if data is None:
        raise ValueError(
            f"the corpus {corpus} needs --data: the folder of Multi30k's raw files "
            "(github.com/multi30k/dataset), or a file of pairs with a tab between "
            "(manythings.org/anki)"
        )
    if corpus == "multi30k":
        return {name: _multi30k(locate(data), stem) for name, stem in _MULTI30K.items()}
    return _split_by_source(_lines(_only_file(locate(data))))


def _multi30k(folder: Path, stem: str) -> Pairs:
    """German to English."""
    sides = []
    for language in ("de", "en"):
        file = folder / f"{stem}.{language}.gz"
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {file.name}: the raw files of Multi30k lie at "
                "github.com/multi30k/dataset"
            )
        sides.append(read_bytes(file).decode().splitlines())
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{folder} has unequal numbers of lines in {stem}.de and .en")
    return Pairs(*sides)


def _only_file(data: Path) -> Path:
    if data.is_file():
        return data
    files = [path for path in data.iterdir() if path.name.split(".")[-1] in ("txt", "xz")]
    files = [path for path in files if not path.name.startswith("_")]
    if len(files) != 1:
        raise ValueError(f"{data} needs one file of pairs, it has {len(files)}")
    return files[0]


def _lines(file: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(read_bytes(file).decode().splitlines(), 1):
        columns = line.split("\t")  # a third column, where there is one, names authors
        if len(columns) < 2:
            raise ValueError(f"line {number} of {file} has no tab between two sentences")
        pairs.append((columns[0], columns[1]))
    return pairs


def _split_by_source(pairs: list[tuple[str, str]]) -> dict[str, Pairs]:
    """Two pairs of a hundred for validation and two for test, by a hash of the words of
    the source: all translations of a sentence are in one split. Raises ValueError if a
    split is empty."""
    splits = {name: Pairs([], []) for name in SPLITS}
    for source, target in pairs:
        key = " ".join(re.findall(r"\w+", source.casefold()))
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % 100
        name = {0: "valid", 1: "valid", 2: "test", 3: "test"}.get(place, "train")
        splits[name].source.append(source)
        splits[name].target.append(target)
    for name, found in splits.items():
        if not found.source:
            raise ValueError(f"too few pairs to divide: none falls to {name!r}")
    return splits


def _reversal(number: int) -> Pairs:
    """Letters, and their Greek sisters from the last to the first."""
    greek = str.maketrans("abcdefgh", "αβγδεζηθ")
    draw = np.random.default_rng(number)
    count = 512 if number == 0 else 32
    sentences = [
        " ".join(draw.choice(list("abcdefgh"), draw.integers(3, 6))) for _ in range(count)
    ]
    return Pairs(sentences, [s[::-1].translate(greek) for s in sentences])
