"""The Stanford Sentiment Treebank's trees (Socher et al. 2013)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_WRITTEN = {"-LRB-": "(", "-RRB-": ")", "``": '"', "''": '"'}


class Phrase(NamedTuple):
    """A node of a tree: how it was judged, 0 (very negative) to 4, and its words."""

    label: int
    words: tuple[str, ...]


def phrases(tree: str) -> Iterator[Phrase]:
    """The nodes of a tree such as `(3 (2 a) (4 (3 lovely) (2 film)))`, the whole sentence
    last. Raises ValueError if it is no tree."""
    above: list[list[str]] = []
    parts = re.findall(r"[()]|[^()\s]+", tree)
    for number, part in enumerate(parts, 1):
        if part == "(":
            above.append([])
        elif part == ")" and above and len(above[-1]) > 1:
            label, *words = above.pop()
            if label not in ("0", "1", "2", "3", "4"):
                break
            yield Phrase(int(label), tuple(words))
            if not above and number == len(parts):
                return
            if not above:
                break
            above[-1] += words
        elif part == ")" or not above:
            break
        else:
            above[-1].append(_WRITTEN.get(part) or part.replace("\\", ""))
    raise ValueError(f"not a tree with labels from 0 to 4: {tree.strip()[:60]!r}")
