"""Makes files of text into tokens on disk, in the memory of a few pieces of them.

The files are read once, into one copy in the folder where the tokens will lie: a text must
be known whole before it can be divided, and divided before its vocabulary can be learned.
The copy goes when the tokens are there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from jaxrnn.data.files import digest_of_pieces, read_pieces
from jaxrnn.data.pieces import characters, pieces_between
from jaxrnn.data.prepared import Prepared, begin, clear
from jaxrnn.data.shards import Layout, lasting, write_tokens
from jaxrnn.data.splits import SPLITS, divide, is_for
from jaxrnn.data.subwords import AnyTokenizer, Subwords
from jaxrnn.data.text_files import read_text_pieces
from jaxrnn.data.tokenizer import DIFFERENT, Tokenizer

Kind = Literal["character", "byte", "word", "bpe"]

# (what is done, pieces, their bytes or None where that is not known) -> the same pieces
Watch = Callable[[str, Iterable[bytes], int | None], Iterable[bytes]]


class Span(NamedTuple):
    """A part of a file."""

    path: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def pieces(self) -> Iterator[bytes]:
        return pieces_between(*self)


def prepare(
    files: Sequence[Path],
    folder: Path,
    kind: Kind,
    shares: tuple[float, float, float] = (0.9, 0.05, 0.05),
    vocabulary: int | None = None,
    watch: Watch = lambda doing, pieces, size: pieces,
) -> Prepared:
    """The text of the files, in their order, as tokens in `folder`.

    Tokens, vocabulary and splits are those of training on the same text itself: it is cut
    by `shares`, or by the files' names where some are for training and some for validation.

    vocabulary: the most symbols that words may have, of which `<unk>` is one, and the
        number of tokens that "bpe" learns.

    Raises ValueError if the files or the folder will not do, a file is no text, or a split
    would be empty.
    """
    check_vocabulary(kind, vocabulary)
    sources = by_split(files)
    begin(folder)
    try:
        copies = {
            name: _copy(some, folder / f"{name}.text", kind, watch)
            for name, some in sources.items()
        }
        whole = copies.get("whole")
        spans = copies if whole is None else _divided(files[0], whole, shares)
        prepared = _tokens(spans, folder, kind, vocabulary, watch)
        for copy in copies.values():
            copy.path.unlink()
    except BaseException:
        clear(folder)
        raise
    prepared.finish(folder)
    return prepared


def _tokens(
    spans: dict[str, Span], folder: Path, kind: Kind, vocabulary: int | None, watch: Watch
) -> Prepared:
    sha256 = digest_of_pieces({n: (s.size, s.pieces()) for n, s in spans.items()})
    train = watch("vocabulary", spans["train"].pieces(), spans["train"].size)
    tokenizer = _learn(kind, train, vocabulary)
    layouts, unknown = {}, {}
    for name, span in spans.items():
        pieces = watch(f"{name} tokens", span.pieces(), span.size)
        layouts[name], unknown[name] = _write(folder, name, tokenizer, pieces)
        if not layouts[name].tokens:
            raise ValueError(f"the {name} text holds not one {kind}")
    return Prepared(tokenizer, sha256, layouts, unknown)


def check_vocabulary(kind: Kind, vocabulary: int | None) -> None:
    """Raises ValueError for a size of vocabulary that the kind of tokens does not have."""
    if kind == "bpe" and vocabulary is None:
        raise ValueError("bpe needs the number of tokens to learn: --vocabulary 8000")
    if kind in ("character", "byte") and vocabulary is not None:
        raise ValueError(f"vocabulary is of words and bpe, not of {kind} tokens")
    if kind != "word" or vocabulary is None:
        return
    if not 1 <= vocabulary <= DIFFERENT // 2:
        raise ValueError(
            f"a vocabulary of words has 1 to {DIFFERENT // 2}, got {vocabulary}"
        )


def by_split(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split by their names, or all as the "whole" where none is for
    validation or test. Raises ValueError if some have no split or several, or one is not
    there."""
    if not files:
        raise ValueError("there are no files to prepare")
    for path in files:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name the files in it")
        if not path.exists():
            raise ValueError(f"there is no file {path}")
    named = {path: [name for name in SPLITS if is_for(name, path)] for path in files}
    if not any({"valid", "test"}.intersection(names) for names in named.values()):
        return {"whole": list(files)}
    for path, names in named.items():
        if len(names) != 1:
            raise ValueError(
                f"the name of {path} is for {' and '.join(names) or 'no split'}, and each "
                "should begin one word with train, valid or test"
            )
    splits = {name: [path for path in files if named[path] == [name]] for name in SPLITS}
    for name in ("train", "valid"):
        if not splits[name]:
            raise ValueError(f"there are files for other splits, and none for {name}")
    return {name: some for name, some in splits.items() if some}


def _copy(files: list[Path], copy: Path, kind: Kind, watch: Watch) -> Span:
    """One file of all of them, in UTF-8 unless they are bytes of any kind."""
    packed = any(path.suffix in (".gz", ".xz") for path in files)
    size = None if packed else sum(path.stat().st_size for path in files)
    pieces = (piece for path in files for piece in _read(path, kind))
    with lasting(copy) as file:
        for piece in watch("reading", pieces, size):
            file.write(piece)
        return Span(copy, 0, file.tell())


def _read(path: Path, kind: Kind) -> Iterator[bytes]:
    if kind != "byte":
        yield from (text.encode() for text in read_text_pieces(path))
        return
    empty = True
    for piece in read_pieces(path):
        empty = False
        yield piece
    if empty:
        raise ValueError(f"{path} is empty")


def _divided(
    path: Path, whole: Span, shares: tuple[float, float, float]
) -> dict[str, Span]:
    """Cut between characters; a byte that belongs to none counts as one."""
    texts = characters(whole.pieces(), "surrogateescape")
    places = divide(path, sum(map(len, texts)), shares)
    offsets = _offsets(whole, sorted({end for _, end in places.values()}))
    return {
        name: Span(whole.path, offsets.get(start, 0), offsets[end])
        for name, (start, end) in places.items()
    }


def _offsets(span: Span, places: list[int]) -> dict[int, int]:
    """The bytes before the characters numbered `places`."""
    offsets, read, size = {}, 0, 0
    for text in characters(span.pieces(), "surrogateescape"):
        for place in places:
            if read < place <= read + len(text):
                offsets[place] = size + _bytes_in(text[: place - read])
        read, size = read + len(text), size + _bytes_in(text)
    return offsets


def _bytes_in(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _learn(kind: Kind, pieces: Iterable[bytes], vocabulary: int | None) -> AnyTokenizer:
    if kind == "bpe":
        assert vocabulary is not None
        return Subwords.learn(pieces, vocabulary)
    return Tokenizer.learn(kind, pieces, at_most=vocabulary)


def _write(
    folder: Path, split: str, tokenizer: AnyTokenizer, pieces: Iterable[bytes]
) -> tuple[Layout, int]:
    """The layout of what is written, and how many of the tokens are unknown."""
    unknown = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal unknown
        for tokens in tokenizer.stream(pieces):
            unknown += tokenizer.count_unknown(tokens)
            yield tokens

    layout = Layout(folder, split, tokenizer.dtype.newbyteorder("<").str)
    return write_tokens(layout, counted()), unknown
