"""Pairs of sentences: where they come from and how they are split."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrnn.data.files import locate
from jaxrnn.data.text_files import read_lines, read_rows

SPLITS = ("train", "valid", "test")
_MULTI30K = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
# What a first line says that names its columns: no sentence is one of these alone.
_HEADINGS = set(
    """source target src tgt trg text sentence translation en de es fr it pt nl ru zh ja
    english german spanish french italian portuguese dutch russian chinese
    japanese""".split()
)


class Pairs(NamedTuple):
    """Sentences and what they are translated to, one for one."""

    source: list[str]
    target: list[str]

    def as_bytes(self) -> bytes:
        return "\n".join(map("\t".join, zip(*self, strict=True))).encode()


def read_pairs(corpus: str, data: Path | None, backwards: bool = False) -> dict[str, Pairs]:
    """The pairs of each split, the second of each translated to the first where they are
    read `backwards`; raises ValueError if they are not there."""
    if backwards and corpus != "pairs":
        raise ValueError(f"backwards is of the corpus 'pairs', not {corpus!r}")
    if corpus == "reversal":
        return {name: _reversal(number) for number, name in enumerate(SPLITS)}
    if data is None:
        raise ValueError(
            f"the corpus {corpus} needs --data: the folder of Multi30k's raw files "
            "(github.com/multi30k/dataset), or a file of pairs with a tab between "
            "(manythings.org/anki), or a folder of two files, line for line"
        )
    if corpus == "multi30k":
        return {name: _multi30k(locate(data), stem) for name, stem in _MULTI30K.items()}
    pairs = _of_files(_files(locate(data)))
    if backwards:
        pairs = [(second, first) for first, second in pairs]
    return _split_by_source(locate(data), pairs)


def _multi30k(folder: Path, stem: str) -> Pairs:
    """German to English."""
    files = [folder / f"{stem}.{language}.gz" for language in ("de", "en")]
    for file in files:
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {file.name}: the raw files of Multi30k lie at "
                "github.com/multi30k/dataset"
            )
    return _side_by_side(*files)


def _side_by_side(source: Path, target: Path) -> Pairs:
    """Two files whose lines are the translations of one another."""
    sides = [_without_blank_end(read_lines(file)) for file in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"{source} has {len(sides[0])} lines and {target} has {len(sides[1])}"
        )
    pairs = Pairs([], [])
    for number, (first, second) in enumerate(zip(*sides, strict=True), 1):
        if first.strip() and second.strip():
            pairs.source.append(first)
            pairs.target.append(second)
        elif first.strip() or second.strip():
            blank = target if first.strip() else source
            raise ValueError(f"line {number} of {blank} is blank, the other side's is not")
    return pairs


def _without_blank_end(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _files(data: Path) -> list[Path]:
    """The one file of pairs, or the two of which one has the translations of the other."""
    if not data.is_dir():
        return [data]
    files = sorted(path for path in data.iterdir() if path.name[0] not in "._")
    texts = [path for path in files if path.name.split(".")[-1] in ("txt", "xz")]
    if len(texts) == 1:
        return texts
    if len(files) != 2:
        raise ValueError(
            f"{data} needs one file of pairs, or two line for line; it has {len(files)}"
        )
    return files


def _of_files(files: list[Path]) -> list[tuple[str, str]]:
    if len(files) == 2:
        return list(zip(*_side_by_side(*files), strict=True))
    return _of_columns(files[0])


def _of_columns(file: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, columns in read_rows(file):
        if len(columns) < 2:
            raise ValueError(f"line {number} of {file} has no tab between two sentences")
        source, target = columns[:2]  # a third one, where there is one, names authors
        if not source.strip() or not target.strip():
            raise ValueError(f"line {number} of {file} has an empty side")
        if not pairs and _HEADINGS >= {source.strip().lower(), target.strip().lower()}:
            raise ValueError(
                f"line {number} of {file} names the columns, {source!r} and {target!r}: "
                "take it out, or it is learned as a pair"
            )
        pairs.append((source, target))
    return pairs


def _split_by_source(file: Path, pairs: list[tuple[str, str]]) -> dict[str, Pairs]:
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
            raise ValueError(f"{file} has too few pairs to divide: none falls to {name!r}")
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
