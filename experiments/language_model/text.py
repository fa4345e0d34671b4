"""The text of a language model: files, prepared tokens, or Python's standard library."""

import hashlib
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxrnn.data import splits
from jaxrnn.data.files import digest, locate_all, text_digest
from jaxrnn.data.prepared import Prepared, is_prepared
from jaxrnn.data.shards import Tokens
from jaxrnn.data.splits import SPLITS
from jaxrnn.data.subwords import AnyTokenizer
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.training.processes import is_first
from jaxrnn.training.run.origin import taken_along

from .config import Config


@dataclass(frozen=True)
class Text:
    """A text in its splits, as tokens."""

    tokenizer: AnyTokenizer
    tokens: Mapping[str, np.ndarray | Tokens]
    sha256: str  # of the text itself, prepared or not

    @property
    def fingerprint(self) -> dict[str, str]:
        """What a run rests on: two digests."""
        return {
            "data_sha256": self.sha256,
            "tokenizer_sha256": text_digest(self.tokenizer.as_json()),
        }


def read_tokens(config: Config, tokenizer: AnyTokenizer | None = None) -> Text:
    """The text that `config` names, by `tokenizer` or, without one, that of the run it
    begins with, or of its training text. Raises ValueError if there is no such text, or it
    was prepared otherwise."""
    begins = tokenizer is None
    tokenizer = tokenizer or taken_along(config, config.tokens)
    found = [] if config.data is None else locate_all(config.data)
    if len(found) == 1 and is_prepared(found[0]):
        return _prepared(found[0], config, tokenizer)
    if config.tokens == "bpe" and tokenizer is None:
        raise ValueError(
            "bpe is learned beforehand: python -m experiments.language_model.prepare FILE "
            "--tokens bpe --vocabulary 8000 --out FOLDER, and then --data FOLDER"
        )
    texts = read_splits(config.data, config.split, config.tokens)
    tokenizer = tokenizer or Tokenizer.of(config.tokens, texts["train"])
    for name, text in texts.items():
        if begins and (unseen := tokenizer.about_unseen(text)) and is_first():
            print(f"of the {name} text, {unseen}")
    tokens = {name: tokenizer.encode(text) for name, text in texts.items()}
    return Text(tokenizer, tokens, digest(texts))


def read_any(path: Path, config: Config, tokenizer: AnyTokenizer) -> Text:
    """All of a file, a folder or a pattern, as the only split, "text"."""
    text = splits.read_whole(path, config.tokens)
    if unseen := tokenizer.about_unseen(text):
        print(f"of the text, {unseen}", file=sys.stderr)
    return Text(tokenizer, {"text": tokenizer.encode(text)}, digest({"text": text}))


def _prepared(folder: Path, config: Config, tokenizer: AnyTokenizer | None) -> Text:
    prepared = Prepared.open(folder)
    if prepared.tokenizer.kind != config.tokens:
        raise ValueError(
            f"{folder} was prepared with --tokens {prepared.tokenizer.kind}, and the run "
            f"has --tokens {config.tokens}"
        )
    if tokenizer is not None and tokenizer.as_json() != prepared.tokenizer.as_json():
        raise ValueError(f"{folder} was prepared with another tokenizer than the run's")
    return Text(prepared.tokenizer, prepared.tokens(), prepared.data_sha256)


def read_splits(
    data: Path | None, shares: tuple[float, float, float], tokens: str = "character"
) -> dict[str, bytes]:
    """The text of each split, as `jaxrnn.data.splits` reads it from a file or folder; None
    is Python's standard library. Raises ValueError if there is no such text."""
    if data is None:
        return _standard_library()
    return splits.read_splits(data, shares, tokens)


def _standard_library() -> dict[str, bytes]:
    """The modules of the standard library, one file in 20 for validation and one for test,
    by a hash of its name: a file stays in its split in every version."""
    root = Path(sysconfig.get_path("stdlib"))
    tests = {"test", "tests", "idle_test"}
    tables = {"encodings", "pydoc_data"}
    left_out = {"site-packages", "dist-packages"} | tests | tables
    files: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if left_out.isdisjoint(name.parts):
            place = hashlib.sha256(name.as_posix().encode()).digest()[0] % 20
            split = {0: "valid", 1: "test"}.get(place, "train")
            files[split].append(path.read_bytes())
    return {name: b"\n".join(parts) for name, parts in files.items()}
