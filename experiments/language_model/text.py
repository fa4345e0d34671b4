"""Text to tokens: where it comes from, how it is split, what a token is."""

import hashlib
import json
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxrnn.training.data_files import locate, read_bytes

SPLITS = ("train", "valid", "test")
UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"


def read_splits(data: Path | None, shares: tuple[float, float, float]) -> dict[str, bytes]:
    """The bytes of each split; `test` is missing where there is none.

    A file is cut by `shares` in its order; a folder has one file a split, known by its
    name, or one file; None is Python's standard library. Raises ValueError if there is no
    such text.
    """
    if data is None:
        return _standard_library()
    data = locate(data)
    if data.is_dir():
        files = sorted(path for path in data.iterdir() if path.is_file())
        if len(files) != 1 or any(name in files[0].name for name in SPLITS):
            return _folder(data, files)
        data = files[0]
    try:
        text = read_bytes(data).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{data} is not UTF-8 text: {error}") from None
    return _cut(text, shares)


def _cut(text: str, shares: tuple[float, float, float]) -> dict[str, bytes]:
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0 or shares[1] == 0:
        raise ValueError(
            f"split needs three shares that add up to 1, training and validation above 0, "
            f"got {shares}"
        )
    first = int(shares[0] * len(text))
    second = int((shares[0] + shares[1]) * len(text))
    parts = text[:first], text[first:second], text[second:]
    splits = {name: part.encode() for name, part in zip(SPLITS, parts, strict=True)}
    if not splits["test"]:
        del splits["test"]
    return splits


def _folder(folder: Path, files: list[Path]) -> dict[str, bytes]:
    splits = {}
    for name in SPLITS:
        found = [path for path in files if name in path.name]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise ValueError(f"{folder} has several files for {name!r}: {names}")
        if found:
            splits[name] = read_bytes(found[0])
        elif name != "test":
            raise ValueError(f"{folder} has no file with {name!r} in its name")
    return splits


def _standard_library() -> dict[str, bytes]:
    """The modules of the standard library, one file in 20 for validation and one for test,
    by a hash of its name: a file stays in its split in every version."""
    root = Path(sysconfig.get_path("stdlib"))
    tests = {"test", "tests", "idle_test"}
    tables = {"encodings", "pydoc_data"}
    left_out = {"site-packages", "dist-packages"} | tests | tables
    splits: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if left_out.isdisjoint(name.parts):
            place = hashlib.sha256(name.as_posix().encode()).digest()[0] % 20
            split = {0: "valid", 1: "test"}.get(place, "train")
            splits[split].append(path.read_bytes())
    return {name: b"\n".join(files) for name, files in splits.items()}


@dataclass(frozen=True)
class Tokenizer:
    """Characters, bytes or words to numbers and back.

    Words are what white space separates, and every end of a line is the word `<eos>`.
    What was not seen in training is `<unk>`.
    """

    kind: str
    symbols: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, text: bytes) -> "Tokenizer":
        """The tokenizer of a training text, its symbols from frequent to rare."""
        if kind == "byte":
            return cls(kind)
        counts = Counter(_split(kind, text.decode()))
        counts.setdefault(UNKNOWN, 0)
        ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls(kind, tuple(ordered))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["kind"], tuple(stored["symbols"]))

    def as_json(self) -> str:
        stored = {"kind": self.kind, "symbols": self.symbols}
        return json.dumps(stored, ensure_ascii=False, indent=0)

    @property
    def size(self) -> int:
        return 256 if self.kind == "byte" else len(self.symbols)

    def encode(self, text: bytes) -> np.ndarray:
        """`[N]`, in the smallest unsigned type that holds the vocabulary."""
        dtype = np.min_scalar_type(self.size - 1)
        if self.kind == "byte":
            return np.frombuffer(text, np.uint8)
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        unknown = numbers[UNKNOWN]
        symbols = _split(self.kind, text.decode())
        return np.array([numbers.get(symbol, unknown) for symbol in symbols], dtype)

    def decode(self, tokens: np.ndarray) -> str:
        if self.kind == "byte":
            return bytes(tokens.astype(np.uint8)).decode(errors="replace")
        symbols = (self.symbols[number] for number in tokens)
        if self.kind == "character":
            return "".join(symbols)
        lines = " ".join(symbols).split(END_OF_LINE)
        return "\n".join(line.strip() for line in lines)


def _split(kind: str, text: str) -> list[str] | str:
    if kind == "character":
        return text
    return text.replace("\n", f" {END_OF_LINE} ").split()
