import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from experiments.language_model.prompt import go_on, read_prompt
from experiments.language_model.text import read_splits
from jaxrnn.data.files import digest
from jaxrnn.data.text_files import read_lines, read_rows, read_text
from jaxrnn.data.tokenizer import Tokenizer

SHARES = (0.9, 0.05, 0.05)

# Lines, columns and encodings.

INSIDE = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"]


@pytest.fixture
def file(tmp_path):
    def write(content, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("mark", INSIDE, ids=ascii)
def test_a_line_ends_at_the_line_feed_only(file, mark):
    path = file(f"a{mark}b\n\r\n{mark}\r\nlast")
    assert read_lines(path) == [f"a{mark}b", "", mark, "last"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_last_line_may_have_an_end_or_none(file, end):
    assert read_lines(file(f"a\r\n b {end}")) == ["a", " b "]


def test_a_mark_that_an_editor_left_is_no_text(file):
    assert read_text(file(b"\xef\xbb\xbfa\xef\xbb\xbfb")) == "a\ufeffb"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "file.txt is empty"),
        (b"\xef\xbb\xbf", "file.txt is empty"),
        (b"one\ntwo\n\xfcber", "file.txt is not UTF-8 text: byte 0xfc in line 3"),
        ("text".encode("utf-16"), "file.txt is not UTF-8 text, it is UTF-16"),
        ("a\nb".encode("utf-16-le"), "file.txt is not text, .* a NUL in line 1"),
        (b"one\rtwo\r", "lines of .*file.txt end with carriage returns alone"),
    ],
)
def test_what_is_no_text_is_refused_by_name(file, content, message):
    with pytest.raises(ValueError, match=message):
        read_lines(file(content))


def test_a_folder_or_nothing_where_a_file_is_wanted_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is a folder"):
        read_text(tmp_path)
    with pytest.raises(ValueError, match="there is no file .*none"):
        read_text(tmp_path / "none")


def test_another_encoding_is_read_where_it_may_be_the_one(file):
    for encoding in ("utf-8", "cp1252"):
        assert read_text(file("naïve".encode(encoding)), ("utf-8", "cp1252")) == "naïve"


def test_blank_lines_are_no_rows_and_keep_their_numbers(file):
    path = file("\na\tb\tc\n  \t \n\nd\n")
    assert read_rows(path) == [(2, ["a", "b", "c"]), (5, ["d"])]
    assert read_rows(path, most=2)[0] == (2, ["a", "b\tc"])


@pytest.mark.parametrize(
    "line, columns",
    [
        ('"a"\t"b"', ["a", "b"]),  # every field has them
        ('a\t"say ""b"""', ["a", 'say "b"']),
        ('a\t"b"', ["a", '"b"']),  # a text's own
        ('a\t"b" and "c"', ["a", '"b" and "c"']),
        ('"a\tb"', ['"a', 'b"']),
    ],
)
def test_the_quotes_of_a_spreadsheet_are_no_text(file, line, columns):
    assert read_rows(file(line)) == [(1, columns)]


# Tokens.


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


def test_what_training_never_saw_is_named():
    tokenizer = Tokenizer.of("word", b"a b <unk>\n")
    assert tokenizer.about_unseen(b"a <unk>\n") == ""
    assert tokenizer.unseen(b"c a d c\n") == {"c": 2, "d": 1}
    want = "3 word(s) not seen in training are read as <unk>: 'c', 'd'"
    assert tokenizer.about_unseen(b"c a d c\n") == want
    assert Tokenizer.of("byte", b"a").about_unseen(b"\xff") == ""


def test_a_word_that_holds_the_end_of_a_line_stays_one_word():
    tokenizer = Tokenizer.of("word", b"a<eos>b c\n")
    tokens = tokenizer.encode(b"c a<eos>b c\nc")
    assert tokenizer.decode(tokens) == "c a<eos>b c\nc"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "word"}', b"\xff"])
def test_a_damaged_tokenizer_is_refused_by_name(file, content):
    with pytest.raises(ValueError, match="tokenizer.json"):
        Tokenizer.load(file(content, "tokenizer.json"))


@pytest.mark.parametrize(
    "kind, prompt, written, text",
    [
        ("word", "to  fly\t", "to be", "to  fly\tto be"),
        ("word", "to  fly", "to be", "to  fly to be"),
        ("word", "to  fly", "\nto", "to  fly\nto"),
        ("word", "\n\n", "to", "\n\nto"),
        ("character", "a\tZ\x85é", "be", "a\tZ\x85ébe"),
        ("byte", "caf\udce9", "be", "caf\udce9be"),
    ],
)
def test_a_prompt_is_printed_as_it_was_given(kind, prompt, written, text):
    tokenizer = Tokenizer.of(kind, b"to be or not to be\n")
    assert len(read_prompt(tokenizer, prompt))
    assert go_on(tokenizer, prompt, tokenizer.encode(written.encode())) == text


@pytest.mark.parametrize(
    "kind, prompt", [("byte", ""), ("character", ""), ("word", " \t ")]
)
def test_a_prompt_without_a_token_is_refused(kind, prompt):
    with pytest.raises(ValueError, match=f"needs at least one {kind}, got "):
        read_prompt(Tokenizer.of(kind, b"to be"), prompt)


# Splits.


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


def test_the_files_of_a_folder_or_a_pattern_are_one_text(tmp_path, monkeypatch):
    books = tmp_path / "books"
    (books / "more [1]").mkdir(parents=True)
    (books / ".git").mkdir()
    (books / ".git" / "HEAD").write_bytes(b"\0")
    a, b, c = 20 * "a", 20 * "b", 20 * "c"
    for name, text in (("b.txt", b), ("a.md", a), ("more [1]/c.txt", c)):
        (books / name).write_text(text)

    def text_of(data):
        return b"".join(read_splits(data, SHARES).values()).decode()

    assert text_of(books) == f"{a}\n{b}\n{c}"
    assert text_of(books / "more [1]") == c
    assert text_of(books / "*.txt") == b
    assert text_of(books / "**/*.txt") == f"{b}\n{c}"
    monkeypatch.setenv("JAXRNN_DATA", str(tmp_path))
    assert text_of(Path("books/?.*")) == f"{a}\n{b}"
    (books / "picture").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="picture is not UTF-8"):
        read_splits(books, SHARES)
    with pytest.raises(ValueError, match=r"no data at .*\*.tex"):
        read_splits(books / "*.tex", SHARES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no file in it"):
        read_splits(tmp_path / "empty", SHARES)


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


@pytest.mark.parametrize("folder", [False, True])
def test_bytes_of_any_kind_are_learned_from_a_file_as_from_a_folder(tmp_path, folder):
    content = b"\xef\xbb\xbf\xff\xd8\0 \xc3\xa9\r\n" * 20
    for name in ("train", "valid", "test") if folder else ("whole",):
        (tmp_path / name).write_bytes(content)
    splits = read_splits(tmp_path, SHARES, "byte")
    assert b"".join(splits.values()) == content * (3 if folder else 1)
    with pytest.raises(ValueError, match="(train|whole) is not (UTF-8 )?text"):
        read_splits(tmp_path, SHARES, "character")


def test_bytes_of_a_text_are_cut_where_its_characters_are(file):
    path = file("é☕" * 50)
    assert read_splits(path, SHARES, "byte") == read_splits(path, SHARES)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
@pytest.mark.parametrize("content", [b"", b"\xe9"])
def test_the_one_file_of_a_folder_that_is_no_text_is_named(tmp_path, name, content):
    for split in ("train", "valid", "test"):
        (tmp_path / split).write_bytes(content if split == name else b"text")
    with pytest.raises(ValueError, match=f"{name} is "):
        read_splits(tmp_path, SHARES)


def test_a_text_of_one_character_is_refused_by_name(file):
    with pytest.raises(ValueError, match="file.txt is too short to divide"):
        read_splits(file("a"), SHARES)


def test_the_name_of_a_split_begins_a_word_and_hidden_files_are_none(tmp_path):
    (tmp_path / "latest.txt").write_bytes(bytes(range(97, 117)))
    (tmp_path / "._latest.txt").write_bytes(b"\0")
    assert list(read_splits(tmp_path, SHARES)) == ["train", "valid", "test"]


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
