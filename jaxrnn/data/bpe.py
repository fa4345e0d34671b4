"""Byte pair encoding: parts of words, learned from how often neighbours meet."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable

# A space before a word is part of it, so that joining the parts gives the text back.
SPACE = "▁"


def learn_merges(words: Counter[str], merges: int) -> list[tuple[str, str]]:
    """The pairs of parts to be joined, in their order (Sennrich et al. 2016).

    Begins with single characters; joins the pair that is most often side by side, and so
    on, until there are `merges` or no pair meets twice. Of equally frequent pairs the
    first in the alphabet wins.
    """
    parts = [list(word) for word in words]
    counts = list(words.values())
    pairs: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for number, word in enumerate(parts):
        for pair in zip(word, word[1:], strict=False):
            pairs[pair] += counts[number]
            places[pair].add(number)

    # Counts only change for the words that a join touches: an entry of the heap whose
    # count is no longer true is passed over, and the true one was put there beside it.
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    learned = []
    while heap and len(learned) < merges:
        count, best = heapq.heappop(heap)
        if pairs[best] != -count:
            continue
        if pairs[best] < 2:
            break
        learned.append(best)
        changed = set()
        for number in places[best]:
            for pair in zip(parts[number], parts[number][1:], strict=False):
                pairs[pair] -= counts[number]
                changed.add(pair)
            parts[number] = join(parts[number], best)
            for pair in zip(parts[number], parts[number][1:], strict=False):
                pairs[pair] += counts[number]
                places[pair].add(number)
                changed.add(pair)
        for pair in changed:
            heapq.heappush(heap, (-pairs[pair], pair))
    return learned


def split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """The parts of a word: the pair learned first is joined first."""
    parts = list(word)
    while len(parts) > 1:
        pairs = zip(parts, parts[1:], strict=False)
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        parts = join(parts, best)
    return parts


def join(parts: Iterable[str], pair: tuple[str, str]) -> list[str]:
    """The parts with each occurrence of `pair` made one, from the left."""
    joined: list[str] = []
    fresh = True  # whether the last part may still be the first half of a pair
    for part in parts:
        if fresh and joined and (joined[-1], part) == pair:
            joined[-1] += part
            fresh = False
        else:
            joined.append(part)
            fresh = True
    return joined
