"""The files of a saved step, and the list of their digests beside them."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from jaxrnn.training.store.reads import Damaged

SUMS = "SHA256SUMS"


def list_files(folder: Path) -> None:
    """Writes down the SHA-256 of every file, in the format of the command sha256sum.

    A process that is killed just before leaves a step without the list, which is as good:
    the digests of its leaves are in the step's own commit.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in digest_files(folder).items())
    written = folder / f"{SUMS}.tmp"
    written.write_text(lines)
    written.replace(folder / SUMS)


def check_files(folder: Path) -> bool:
    """Reads every file; whether they are listed, and so known to be those saved.

    Raises Damaged for one that is altered, missing, or was not there, and for a link.
    """
    present = digest_files(folder)
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    except UnicodeDecodeError:
        raise Damaged(f"{SUMS} is not the file that was saved") from None
    listed = {line[66:]: line[:64] for line in lines}
    for name in sorted(listed.keys() | present.keys()):
        if listed.get(name) != present.get(name):
            raise Damaged(f"{name} is not the file that was saved")
    return True


def digest_files(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(files_within(folder)):
        name = path.relative_to(folder).as_posix()
        if name not in (SUMS, f"{SUMS}.tmp"):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def files_within(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and its folders; raises Damaged for a link or special file.

    pathlib's own search would leave out in silence what it may not read.
    """
    mode = folder.lstat().st_mode
    if stat.S_ISDIR(mode):
        for path in folder.iterdir():
            yield from files_within(path)
    elif stat.S_ISREG(mode):
        yield folder
    else:
        raise Damaged(f"{folder.name} is a link or a special file")
