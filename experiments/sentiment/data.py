"""Labelled sentences: where they come from and which are learned from."""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxrnn.data.files import digest, locate
from jaxrnn.data.tables import read_named
from jaxrnn.data.text_files import read_lines, read_rows

from .config import Config
from .trees import Phrase, phrases
from .words import normal_form


class Example(NamedTuple):
    """A text in its normal form, and the number of its class."""

    text: str
    label: int


class Corpus(NamedTuple):
    """The names of the classes, and the examples of "train", "valid" and "test"."""

    labels: tuple[str, ...]
    splits: dict[str, list[Example]]

    def digest(self) -> str:
        lines = {
            name: "".join(f"{label}\t{text}\n" for text, label in examples).encode()
            for name, examples in self.splits.items()
        }
        return digest(lines | {"labels": "\n".join(self.labels).encode()})

    def labelled_as(self, labels: Sequence[str]) -> "Corpus":
        """With the numbers of `labels`, as another run has them.

        Raises ValueError if these lack a label of the corpus.
        """
        if unknown := sorted(set(self.labels) - set(labels)):
            raise ValueError(
                f"the labels {', '.join(map(repr, unknown))} are none of those that were "
                f"learned: {', '.join(map(repr, labels))}"
            )
        numbers = [labels.index(label) for label in self.labels]
        splits = {
            name: [Example(text, numbers[label]) for text, label in examples]
            for name, examples in self.splits.items()
        }
        return Corpus(tuple(labels), splits)


POLARITY = ("negative", "positive")
FIVE = ("very negative", "negative", "neutral", "positive", "very positive")


def sst_2(data: Path | None) -> Corpus:
    """Two classes; sentences and phrases judged neutral are left out."""
    return _treebank(data, POLARITY, {0: 0, 1: 0, 3: 1, 4: 1})


def sst_5(data: Path | None) -> Corpus:
    """Five classes, as they were judged."""
    return _treebank(data, FIVE, {label: label for label in range(5)})


def _treebank(
    data: Path | None, labels: tuple[str, ...], classes: dict[int, int]
) -> Corpus:
    """Every phrase of the training trees once, and whole sentences to measure with."""
    source = "its trees are trainDevTestTrees_PTB.zip of nlp.stanford.edu/sentiment"
    splits = {}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        judged = _trees(_part_of(data, f"trees/{name}.txt", source))
        taken = (nodes if split == "train" else nodes[-1:] for nodes in judged)
        examples = [
            Example(normal_form(" ".join(node.words)), classes[node.label])
            for nodes in taken
            for node in nodes
            if node.label in classes
        ]
        splits[split] = list(dict.fromkeys(examples)) if split == "train" else examples
    return Corpus(labels, splits)


def _trees(path: Path) -> Iterator[list[Phrase]]:
    """The nodes of each tree of a file."""
    for number, line in enumerate(read_lines(path), 1):
        try:
            if line.strip():
                yield list(phrases(line))
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is {error}") from None


def mr(data: Path | None) -> Corpus:
    """The sentence polarity set of Pang & Lee 2005, divided by `split_by_hash`.

    In the encoding of Windows, as it was published, or in UTF-8, as others keep it.
    """
    source = "it is rt-polaritydata.tar.gz of cs.cornell.edu/people/pabo/movie-review-data"
    files = [_part_of(data, f"rt-polarity.{ending}", source) for ending in ("neg", "pos")]
    examples = (
        Example(normal_form(line), label)
        for label, file in enumerate(files)
        for line in read_lines(file, ("utf-8", "cp1252"))
        if line.strip()
    )
    return Corpus(POLARITY, split_by_hash(examples, str(files[0].parent)))


def table(
    data: Path | None, text_column: str | None = None, label_column: str | None = None
) -> Corpus:
    """A file of lines `label TAB text` in any language, or one with headings, such as .csv,
    that has the columns "text" and "label" or those named; divided by `split_by_hash`."""
    if data is None:
        raise ValueError(
            "the corpus 'table' needs --data: a file of lines label TAB text, or of .csv"
        )
    path = locate(data)
    if ".csv" in path.suffixes or text_column or label_column:
        rows = _named(path, text_column or "text", label_column or "label")
    else:
        rows = _labelled(path)
    labels = tuple(sorted({label for label, _, _ in rows}))
    if len(labels) < 2:
        raise ValueError(f"{path} needs two labels or more, it has {list(labels)}")
    splits = split_by_hash(
        (Example(text, labels.index(label)) for label, text, _ in rows), str(path)
    )
    learned = {labels[label] for _, label in splits["train"]}
    for label in labels:
        lines = [str(number) for name, _, number in rows if name == label]
        if len(lines) == 1 or label not in learned:
            raise ValueError(
                f"{path} has too few texts of the label {label!r} to learn from, in line "
                f"{', '.join(lines)}: is that a row of headings?"
            )
    return Corpus(labels, splits)


def _labelled(path: Path) -> list[tuple[str, str, int]]:
    """The label and text of each line of a table, and its number."""
    rows = []
    for number, columns in read_rows(path, most=2):
        label, text = columns[0].strip(), "".join(columns[1:])
        if not label or not text.strip():
            line = "\t".join(columns)
            raise ValueError(
                f"line {number} of {path} is not label TAB text: {line[:60]!r}"
            )
        rows.append((label, normal_form(text), number))
    return rows


def _named(path: Path, text: str, label: str) -> list[tuple[str, str, int]]:
    """The same of the columns with these headings."""
    rows = []
    for number, columns in read_named(path, (label, text)):
        name, words = columns[0].strip(), normal_form(columns[1])
        if not name or not words:
            empty = label if not name else text
            raise ValueError(f"line {number} of {path} has nothing in its column {empty!r}")
        rows.append((name, words, number))
    return rows


def toy(data: Path | None) -> Corpus:
    """Sentences made here, whose label is that of the clause they end with."""
    draw = random.Random(0)
    nouns = ("film", "plot", "end", "music", "cast", "story", "pace", "humour")
    words = ("bad", "dull", "awful", "weak"), ("good", "fine", "great", "strong")

    def clause(label: int) -> str:
        return f"the {draw.choice(nouns)} was {draw.choice(words[label])}"

    examples = []
    for number in range(600):
        label = number % 2
        before = clause(draw.randrange(2))
        examples.append(Example(f"{before} , but {clause(label)}", label))
    return Corpus(POLARITY, split_by_hash(examples))


CORPORA: dict[str, Callable[[Path | None], Corpus]] = {
    "sst-2": sst_2,
    "sst-5": sst_5,
    "mr": mr,
    "table": table,
    "toy": toy,
}


def read_corpus(config: Config) -> Corpus:
    """The corpus of a run; raises ValueError if it is not there."""
    columns = config.text_column, config.label_column
    if config.corpus == "table":
        return table(config.data, *columns)
    if any(columns):
        raise ValueError(
            f"text_column and label_column are of the corpus 'table', not {config.corpus!r}"
        )
    return CORPORA[config.corpus](config.data)


def split_by_hash(
    examples: Iterable[Example], source: str = "the corpus"
) -> dict[str, list[Example]]:
    """A tenth for validation, a tenth for test, by a hash of the text: the same text is
    never in two splits, and stays where it is when others come. Raises ValueError that
    names the `source` if a split is empty."""
    splits: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    for example in examples:
        place = int.from_bytes(hashlib.sha256(example.text.encode()).digest()[:4]) % 10
        splits[{0: "valid", 1: "test"}.get(place, "train")].append(example)
    for name, found in splits.items():
        if not found:
            raise ValueError(
                f"{source} has too few texts to divide: none falls to {name!r}"
            )
    return splits


def _part_of(data: Path | None, name: str, source: str) -> Path:
    """The file `name` of a folder; raises ValueError that says where the set is from."""
    try:
        return locate((data or Path()) / name)
    except ValueError:
        raise ValueError(f"no {name} in the folder {data} of --data: {source}") from None
