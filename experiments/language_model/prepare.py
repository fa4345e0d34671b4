"""Makes text of any size into tokens on disk, once, for runs that start in seconds.

    python -m experiments.language_model.prepare wiki/*.txt.xz --out data/wiki \\
        --tokens word --vocabulary 50000
    python -m experiments.language_model.train ptb-small --data data/wiki
    python -m experiments.language_model.prepare --verify data/wiki
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxrnn.data.prepare import by_split, check_vocabulary, prepare
from jaxrnn.data.prepared import Prepared, check_free, is_prepared
from jaxrnn.extras import require
from jaxrnn.training.paths import whole_path
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import FAILED, refusals
from jaxrnn.training.store.lock import RunLock


@dataclass(frozen=True)
class Options:
    """Makes text of any size into tokens on disk, once, for runs that start in seconds."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """UTF-8 (.xz and .gz too), read in this order as one text; or some for each of train,
    valid and test, as their names tell."""
    out: Path | None = None
    """The folder to write, which holds nothing else."""
    tokens: Literal["character", "byte", "word", "bpe"] = "character"
    vocabulary: int | None = None
    """word: the most words to know, and the others are <unk>; bpe: the tokens to learn."""
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of the text for training, validation and test, in its order."""
    verify: Path | None = None
    """Read a prepared folder instead, and hold every token of it to its digest."""


def main() -> int:
    options = tyro.cli(Options, description=__doc__)
    # What the user asked for will not do (2), or the disk will not (1).
    with refusals(FAILED, (OSError,)), refusals(errors=(ValueError, ImportError)):
        if options.verify is not None:
            return verify(options)
        folder = check(options)
        with RunLock(folder):
            made = prepare(
                options.files,
                folder,
                options.tokens,
                options.split,
                options.vocabulary,
                shown,
            )
    tell(made)
    return 0


def check(options: Options) -> Path:
    """The whole path of the folder to write; raises ValueError if something is off."""
    if options.out is None:
        raise ValueError("--out is missing: the folder to write")
    check_vocabulary(options.tokens, options.vocabulary)
    by_split(options.files)
    for path in options.files:
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path} may not be read")
    folder = whole_path(options.out)
    check_free(folder)
    return folder


def verify(options: Options) -> int:
    """Prints a line for every file of tokens; 0 if all are good, else 1."""
    assert options.verify is not None
    if options.files or options.out is not None:
        raise ValueError("--verify takes a folder, and neither files nor --out")
    folder = whole_path(options.verify)
    if not is_prepared(folder):
        raise ValueError(f"{folder} holds no prepared text")
    prepared = Prepared.open(folder)
    good = True
    for path, damage in prepared.damages():
        print(f"{path.name}: {f'DAMAGED: {damage}' if damage else 'good'}")
        good = good and not damage
    tell(prepared)
    return 0 if good else 1


def tell(prepared: Prepared) -> None:
    for name, layout in prepared.layouts.items():
        unknown = prepared.unknown[name]
        also = f", {unknown:,} of them <unk>" if unknown else ""
        print(f"{name}: {layout.tokens:,} tokens{also}")
    print(f"vocabulary: {prepared.tokenizer.size:,} {prepared.tokenizer.kind} tokens")


def shown(doing: str, pieces: Iterable[bytes], size: int | None) -> Iterator[bytes]:
    """The pieces, with a bar on a terminal."""
    require("tqdm", "run")
    from tqdm import tqdm

    with tqdm(
        desc=doing,
        total=size,
        unit="B",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        for piece in pieces:
            yield piece
            bar.update(len(piece))


if __name__ == "__main__":
    terminal.run(main)
