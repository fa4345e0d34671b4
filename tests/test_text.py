import gzip
import lzma

import numpy as np
import pytest

from experiments.language_model.text import read_splits
from jaxrnn.training.data_files import digest
from jaxrnn.training.tokenizer import Tokenizer

SHARES = (0.9, 0.05, 0.05)


@pytest.mark.parametrize("kind", ["character", "byte", "word"])
def test_what_is_encoded_comes_back(kind, tmp_path):
    text = "the cat\n\nsat on ☕ the mät\n"
    stored = Tokenizer.of(kind, text.encode()).as_json()
    (tmp_path / "tokenizer.json").write_text(stored, encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    tokens = tokenizer.encode(text.encode())
    assert tokens.dtype == np.uint8 and tokens.max() < tokenizer.size
    assert tokenizer.decode(tokens) == text
    spelled = tokenizer.spell(tokens)
    assert len(spelled) == len(tokens)
    assert "".join(spelled).replace(" \n", "\n") == text


def test_symbols_are_numbered_from_frequent_to_rare():
    assert Tokenizer.of("character", b"abbccc").symbols == ("c", "b", "a", "<unk>")
    words = Tokenizer.of("word", b"a b b\nb <unk>\n")
    assert words.symbols == ("b", "<eos>", "<unk>", "a")
    assert words.encode(b"b a\n").tolist() == [0, 3, 1]


def test_every_end_of_a_line_is_a_word_and_a_text_that_ends_within_one_has_none():
    tokenizer = Tokenizer.of("word", b"a b\n")
    names = [tokenizer.symbols[n] for n in tokenizer.encode(b"\n a\t b\r\n\na")]
    assert names == ["<eos>", "a", "b", "<eos>", "<eos>", "a"]


@pytest.mark.parametrize("kind, seen, new", [("character", "ab", "z"), ("word", "a ", "z")])
def test_what_training_did_not_hold_is_unknown(kind, seen, new):
    tokenizer = Tokenizer.of(kind, seen.encode())
    (token,) = tokenizer.encode(new.encode())
    assert tokenizer.symbols[token] == "<unk>"
    assert tokenizer.decode(np.array([token])) == "<unk>"


def test_bytes_know_everything_and_decode_what_is_no_text():
    tokenizer = Tokenizer.of("byte", b"a")
    assert tokenizer.size == 256
    assert tokenizer.encode("é".encode()).tolist() == [0xC3, 0xA9]
    assert tokenizer.decode(np.array([0xC3, 0x61])) == "\ufffda"


def test_large_vocabularies_take_wider_tokens():
    text = " ".join(map(str, range(300))).encode()
    tokenizer = Tokenizer.of("word", text)
    assert tokenizer.encode(text).dtype == np.uint16
    assert tokenizer.decode(tokenizer.encode(text)) == text.decode()


@pytest.mark.parametrize(
    "suffix, pack",
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)],
)
def test_a_file_is_cut_by_shares_in_its_order(tmp_path, suffix, pack):
    path = tmp_path / f"text.txt{suffix}"
    text = bytes(range(97, 97 + 20))
    path.write_bytes(pack(text))
    splits = read_splits(path, SHARES)
    assert splits == {"train": text[:18], "valid": text[18:19], "test": text[19:]}


def test_a_text_is_cut_between_characters(tmp_path):
    text = "é☕" * 50
    (tmp_path / "text").write_text(text, encoding="utf-8")
    splits = read_splits(tmp_path / "text", (0.33, 0.33, 0.34))
    parts = [splits[name].decode() for name in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [33, 33, 34] and "".join(parts) == text


def test_a_share_of_zero_leaves_no_test_split(tmp_path):
    (tmp_path / "text").write_text("0123456789")
    splits = read_splits(tmp_path / "text", (0.9, 0.1, 0.0))
    assert splits == {"train": b"012345678", "valid": b"9"}


@pytest.mark.parametrize(
    "shares", [(0.9, 0.2, 0.1), (1.1, 0.1, -0.2), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0)]
)
def test_shares_that_make_no_split_are_refused(tmp_path, shares):
    (tmp_path / "text").write_text("0123456789")
    with pytest.raises(ValueError, match="three shares that add up to 1"):
        read_splits(tmp_path / "text", shares)


def test_a_folder_has_one_file_a_split(tmp_path):
    (tmp_path / "ptb.train.txt.xz").write_bytes(lzma.compress(b"to learn"))
    (tmp_path / "validation.txt").write_bytes(b"to choose")
    (tmp_path / "README").write_bytes(b"about it")
    (tmp_path / "training").mkdir()
    splits = read_splits(tmp_path, SHARES)
    assert splits == {"train": b"to learn", "valid": b"to choose"}
    (tmp_path / "test").write_bytes(b"to tell")
    assert read_splits(tmp_path, SHARES)["test"] == b"to tell"


def test_a_folder_without_validation_or_with_two_of_a_kind_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(ValueError, match=f"{tmp_path} has no file with 'valid'"):
        read_splits(tmp_path, SHARES)
    (tmp_path / "valid.txt").write_text("a")
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"a"))
    with pytest.raises(ValueError, match="several files for 'train': train.txt, train.txt"):
        read_splits(tmp_path, SHARES)


def test_a_text_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"no data at {tmp_path}/none"):
        read_splits(tmp_path / "none", SHARES)


@pytest.mark.parametrize(
    "name, content",
    [
        ("text.xz", b"not packed"),
        ("text.gz", b"not packed"),
        ("half.gz", gzip.compress(b"abc" * 99)[:-9]),
        ("half.xz", lzma.compress(b"abc" * 99)[:-9]),
    ],
    ids=["xz", "gz", "half a gz", "half an xz"],
)
def test_a_damaged_archive_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be unpacked"):
        read_splits(tmp_path / name, SHARES)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="picture is not UTF-8"):
        read_splits(tmp_path / "picture", SHARES)


def test_the_digest_tells_contents_and_splits_apart():
    splits = {"train": b"ab", "valid": b"c"}
    assert digest(splits) == digest(dict(reversed(splits.items())))
    others = [
        {"train": b"ab", "valid": b"d"},
        {"train": b"a", "valid": b"bc"},
        {"train": b"ab", "test": b"c"},
        {"train": b"ab", "valid": b"c", "test": b""},
    ]
    assert len({digest(s) for s in [splits, *others]}) == 5


def test_the_standard_library_is_a_text_with_the_same_three_parts_every_time():
    splits = read_splits(None, SHARES)
    assert digest(splits) == digest(read_splits(None, SHARES))
    total = sum(map(len, splits.values()))
    assert total > 5_000_000
    assert 0.8 < len(splits["train"]) / total < 0.97
    # Sources of modules that are there in every version, each in one split only.
    for line in (
        b"class JSONDecoder(object):",
        b"class TextWrapper:",
        b"class Counter(dict):",
    ):
        assert sum(line in text for text in splits.values()) == 1
