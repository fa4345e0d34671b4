"""The published counts of real text, where JAXRNN_DATA names a folder that has it."""

import os
from pathlib import Path

import pytest

from experiments.language_model.text import read_splits
from jaxrnn.data.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(
    "JAXRNN_DATA" not in os.environ, reason="JAXRNN_DATA names no data sets"
)


@pytest.mark.parametrize(
    "data, kind, shares, counts, vocabulary",
    [
        ("ptb", "word", (0.9, 0.05, 0.05), (929_589, 73_760, 82_430), 10_000),
        ("wikitext2", "word", (0.9, 0.05, 0.05), (2_088_628, 217_646, 245_569), 33_278),
        # 65 characters, and the one that stands for what training never saw.
        ("tinyshakespeare", "character", (0.9, 0.1, 0.0), (1_003_854, 111_540), 66),
    ],
)
def test_real_text_has_the_published_counts(data, kind, shares, counts, vocabulary):
    splits = read_splits(Path(data), shares)
    tokenizer = Tokenizer.of(kind, splits["train"])
    assert tuple(len(tokenizer.encode(text)) for text in splits.values()) == counts
    assert tokenizer.size == vocabulary
