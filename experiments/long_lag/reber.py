"""The embedded Reber grammar (Reber 1967; Cleeremans et al. 1989)."""

from typing import NamedTuple

import numpy as np

SYMBOLS = "BTPSXVE"

# From each state of the Reber grammar: the symbols to choose from, and where they lead.
_REBER = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}


class Strings(NamedTuple):
    """Strings as numbers of symbols, padded with -1."""

    symbols: np.ndarray  # [N, T + 1] int
    legal: np.ndarray  # [N, T, 7] bool  what may follow each symbol


def embedded_string(draw: np.random.Generator) -> tuple[str, list[str]]:
    """One string, and for each of its symbols but the last all that may follow it.

    B, then T or P, then a whole Reber string, then the same T or P again, then E: the
    second symbol has to be remembered until the last but one.
    """
    which = "TP"[draw.integers(2)]
    text, legal, state = "B" + which + "B", ["TP", "B"], 1
    while state != 7:
        legal.append("".join(_REBER[state]))
        symbol = legal[-1][draw.integers(len(legal[-1]))]
        text, state = text + symbol, _REBER[state][symbol]
    return text + which + "E", [*legal, which, "E"]


def draw_strings(count: int, seed: int) -> Strings:
    """`count` random strings, independent of one another."""
    draw = np.random.default_rng(seed)
    texts, followers = zip(*(embedded_string(draw) for _ in range(count)), strict=True)
    longest = max(map(len, texts))
    symbols = np.full((count, longest), -1)
    legal = np.zeros((count, longest - 1, len(SYMBOLS)), bool)
    for n, (text, sets) in enumerate(zip(texts, followers, strict=True)):
        symbols[n, : len(text)] = [SYMBOLS.index(symbol) for symbol in text]
        for t, allowed in enumerate(sets):
            legal[n, t, [SYMBOLS.index(symbol) for symbol in allowed]] = True
    return Strings(symbols, legal)
