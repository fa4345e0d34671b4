"""A folder of prepared text: tokens, their tokenizer, and a manifest that vouches for both.

`prepared.json` tells what else lies there and has a digest of all it tells. It is written
twice: first to say that the folder is not finished, and in its place when it is.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrnn.data.files import read_json, read_pieces, text_digest
from jaxrnn.data.shards import AlteredData, Layout, Tokens, lasting
from jaxrnn.data.subwords import AnyTokenizer, load_tokenizer

MANIFEST, TOKENIZER, LOCK = "prepared.json", "tokenizer.json", "lock.json"

# What a preparation that was ended half way may have left, its lock included.
OURS = re.compile(
    r"(train|valid|test)(-\d{5,}\.tokens|\.sha256)|(train|valid|test|whole)\.text"
    rf"|({re.escape(MANIFEST)}|{re.escape(TOKENIZER)})(\.tmp)?|{re.escape(LOCK)}"
)


@dataclass(frozen=True)
class Prepared:
    """Text that was made into tokens once, for any number of runs.

    data_sha256: that of the text in its splits, by `jaxrnn.data.files.digest`: a run may
        go on with the text or with its tokens.
    unknown: by split, how many tokens are not in the vocabulary.
    """

    tokenizer: AnyTokenizer
    data_sha256: str
    layouts: Mapping[str, Layout]
    unknown: Mapping[str, int]

    @classmethod
    def open(cls, folder: Path) -> "Prepared":
        """Raises ValueError if the folder is not finished, if a file of it is missing or
        of another size, or if what vouches for the tokens was altered.

        The tokens are not read: `Tokens` holds each to its digest before it is used, and
        `damages` all of them.
        """
        stored = _read_manifest(folder)
        try:
            prepared = cls(
                load_tokenizer(folder / TOKENIZER),
                stored["data_sha256"],
                {
                    name: Layout(folder, name, **layout)
                    for name, layout in stored["splits"].items()
                },
                stored["unknown"],
            )
            for name, digest in stored["files"].items():
                _check(folder / name, digest)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{folder} is of another version of jaxrnn: prepare the text again"
            ) from None
        for layout in prepared.layouts.values():
            for path, size in layout.sizes.items():
                if not path.is_file():
                    raise ValueError(f"{path} is missing: prepare the text again")
                if (now := path.stat().st_size) != size:
                    raise ValueError(f"{path} has {now} bytes, it was written with {size}")
        return prepared

    def finish(self, folder: Path) -> None:
        """Says in `folder`, where the tokens lie, that they are whole."""
        write_text(folder / TOKENIZER, self.tokenizer.as_json())
        vouched = [folder / TOKENIZER, *(x.digests for x in self.layouts.values())]
        _write_manifest(
            folder,
            {
                "finished": True,
                "data_sha256": self.data_sha256,
                "splits": {name: x.described() for name, x in self.layouts.items()},
                "unknown": dict(self.unknown),
                "files": {path.name: _file_digest(path) for path in vouched},
            },
        )

    def tokens(self) -> dict[str, Tokens]:
        return {name: Tokens(layout) for name, layout in self.layouts.items()}

    def damages(self) -> Iterator[tuple[Path, str]]:
        """Reads all tokens; gives each file of them, with what is wrong with it or ""."""
        for tokens in self.tokens().values():
            layout = tokens.layout
            for number, path in enumerate(layout.shards):
                damage = ""
                for block in layout.blocks_of(number):
                    try:
                        tokens.check(block)
                    except AlteredData as error:
                        damage = damage or str(error)
                yield path, damage


def is_prepared(folder: Path) -> bool:
    """Whether text was prepared there, to the end or not."""
    return (folder / MANIFEST).is_file()


def check_free(folder: Path) -> None:
    """Raises ValueError unless text may be prepared in `folder`: it is new, empty, or holds
    what a preparation left that was not finished."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; prepared text takes a folder")
    names = {path.name for path in folder.iterdir()}
    others = [name for name in sorted(names) if not OURS.fullmatch(name)]
    if not is_prepared(folder):
        others = sorted(names - {LOCK, f"{MANIFEST}.tmp"})
    if others:
        raise ValueError(
            f"{folder} holds other things, such as {others[0]}: prepared text takes a "
            "folder of its own"
        )
    if is_prepared(folder) and _is_finished(folder):
        raise ValueError(
            f"{folder} holds prepared text already: remove it, or take another folder"
        )


def begin(folder: Path) -> None:
    """Makes `folder` one of text that is not finished; raises as `check_free` does."""
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_manifest(folder, {"finished": False})
    clear(folder)


def clear(folder: Path) -> None:
    """Removes what there is of a text that is not finished."""
    for path in folder.iterdir():
        if path.name not in (MANIFEST, LOCK):
            path.unlink()


def write_text(path: Path, content: str) -> None:
    """At once or not at all."""
    unfinished = path.with_name(f"{path.name}.tmp")
    with lasting(unfinished) as file:
        file.write(content.encode())
    unfinished.replace(path)


def _is_finished(folder: Path) -> bool:
    try:
        return bool(read_json(folder / MANIFEST)["finished"])
    except (ValueError, KeyError, TypeError):
        return True  # not to be removed, whatever it is


def _read_manifest(folder: Path) -> dict[str, Any]:
    stored = read_json(folder / MANIFEST)
    told = dict(stored) if isinstance(stored, dict) else {}
    if told.pop("sha256", None) != _digest_of(told):
        raise ValueError(f"{folder / MANIFEST} was altered since it was written")
    if not told["finished"]:
        raise ValueError(
            f"the text in {folder} was not prepared to the end: run that command again"
        )
    return told


def _write_manifest(folder: Path, told: Mapping[str, Any]) -> None:
    content = json.dumps({**told, "sha256": _digest_of(told)}, indent=2)
    write_text(folder / MANIFEST, content + "\n")


def _digest_of(told: Mapping[str, Any]) -> str:
    return text_digest(json.dumps(told, sort_keys=True))


def _file_digest(path: Path) -> str:
    whole = hashlib.sha256()
    for piece in read_pieces(path):
        whole.update(piece)
    return whole.hexdigest()


def _check(path: Path, digest: str) -> None:
    if _file_digest(path) != digest:
        raise ValueError(f"{path} was altered since it was written")
