"""Text of any size as tokens on disk: the same tokens, and nothing lost in silence."""

import errno
import gzip
import os
import random
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.language_model import (
    evaluate,
    explain,
    plot,
    prepare as command,
    sample,
    train,
)
from experiments.language_model.config import PRESETS
from experiments.language_model.text import read_tokens
from jaxrnn.data import pieces, prepare as preparing, prepared, shards, tokenizer
from jaxrnn.data.pieces import pieces_of
from jaxrnn.data.shards import AlteredData, Layout, Tokens, write_tokens
from jaxrnn.data.subwords import Subwords, load_tokenizer
from jaxrnn.data.text_files import read_text, read_text_pieces
from jaxrnn.data.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent
TINY = PRESETS["tiny"][1]
KINDS = ["character", "byte", "word"]
TEXT = ("\ufeff" + "To be,\r\nor ☕ not\t to bé:\u2028 that\n\n is <unk> " * 40).encode()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return path


def prepare(files, folder, kind="character", **options):
    return preparing.prepare(files, folder, kind, **options)


def assert_same_text(got, want):
    assert got.fingerprint == want.fingerprint
    assert got.tokens.keys() == want.tokens.keys()
    for name, tokens in want.tokens.items():
        every = got.tokens[name][np.arange(len(tokens))]
        assert every.dtype == tokens.dtype
        np.testing.assert_array_equal(every, tokens)


# The same tokens as of the text in one piece.


def random_text(draw):
    alphabet = "ab's1 \n\t\r\x0b\x1c\x85\u2028é☕中!"
    return "".join(draw.choices(alphabet, k=draw.randint(0, 60))).encode()


@pytest.mark.parametrize("kind", [*KINDS, "bpe"])
def test_tokens_are_the_same_wherever_the_text_is_cut(kind):
    draw = random.Random(0)
    known = random_text(draw) * 9
    if kind == "bpe":
        pytest.importorskip("tokenizers")
        made = Subwords.learn(pieces_of(known, 3), 270)
    else:
        made = Tokenizer.learn(kind, pieces_of(known, 3))
        assert made == Tokenizer.of(kind, known)
    for text in [random_text(draw) for _ in range(200)]:
        if kind == "bpe":
            whole = made._made.encode(text.decode()).ids
            assert made.decode(np.array(whole, int)) == text.decode()
        else:
            names = {"character": str, "byte": bytes, "word": tokenizer._words}[kind](
                text if kind == "byte" else text.decode()
            )
            numbers = getattr(made, "numbers", {})
            whole = [x if kind == "byte" else numbers.get(x, made.unknown) for x in names]
        for size in range(1, 8):
            cut = [int(n) for part in made.stream(pieces_of(text, size)) for n in part]
            assert cut == list(whole), (text, size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [3, pieces.PIECE])
def test_a_prepared_text_is_the_text_itself(kind, piece, text, tmp_path, monkeypatch):
    cut = partial(pieces.pieces_between, size=piece)
    monkeypatch.setattr(preparing, "pieces_between", cut)
    config = replace(TINY, tokens=kind, split=(0.61, 0.2, 0.19))
    want = read_tokens(replace(config, data=text))
    prepare([text], tmp_path / "out", kind, shares=config.split)
    assert_same_text(read_tokens(replace(config, data=tmp_path / "out")), want)
    # It is taken by a run whose tokenizer it is, and by no other.
    read_tokens(replace(config, data=tmp_path / "out"), want.tokenizer)
    if kind != "byte":
        with pytest.raises(ValueError, match="with another tokenizer than the run's"):
            read_tokens(
                replace(config, data=tmp_path / "out"), Tokenizer.of(kind, b"other")
            )


def test_files_are_one_text_in_their_order_or_those_of_each_split(tmp_path):
    parts = [b"One.\r\n", "Zwei ö".encode(), b"drei " * 9]
    names = ["b.txt", "a.txt.gz", "latest"]
    for name, part in zip(names, parts, strict=True):
        content = gzip.compress(part) if name.endswith(".gz") else part
        (tmp_path / name).write_bytes(content)
    (tmp_path / "whole").write_bytes(b"".join(parts))
    prepare([tmp_path / name for name in names], tmp_path / "out")
    want = read_tokens(replace(TINY, data=tmp_path / "whole"))
    assert_same_text(read_tokens(replace(TINY, data=tmp_path / "out")), want)

    folder = tmp_path / "by name"
    folder.mkdir()
    (folder / "train").write_bytes(b"".join(parts))
    (folder / "valid").write_bytes(b"one")
    (tmp_path / "train-1").write_bytes(parts[0])
    (tmp_path / "train-2").write_bytes(b"".join(parts[1:]))
    files = [tmp_path / "train-1", folder / "valid", tmp_path / "train-2"]
    prepare(files, tmp_path / "named")
    want = read_tokens(replace(TINY, data=folder))
    assert_same_text(read_tokens(replace(TINY, data=tmp_path / "named")), want)


def test_a_vocabulary_has_so_many_words_and_no_more():
    text = b"a a a b b c d d d d"
    learn = partial(Tokenizer.learn, "word", at_most=3)
    assert learn([text]).symbols == ("d", "a", "<unk>")
    assert learn([text, b" <unk>" * 9]).symbols == ("<unk>", "d", "a")
    assert learn([b"a"]).symbols == ("a", "<unk>")
    with pytest.raises(ValueError, match="1 symbol or more, got 0"):
        Tokenizer.learn("word", [text], at_most=0)


def test_frequent_words_are_found_among_more_than_are_counted_at_once(monkeypatch):
    monkeypatch.setattr(tokenizer, "DIFFERENT", 8)
    rare = [f"rare{n} often also " for n in range(500)]
    learned = Tokenizer.learn("word", pieces_of("".join(rare).encode(), 100), at_most=3)
    assert learned.symbols == ("also", "often", "<unk>")


def test_byte_pairs_are_kept_in_the_folder_and_know_everything(text, tmp_path):
    pytest.importorskip("tokenizers")
    made = prepare([text], tmp_path / "out", "bpe", vocabulary=270).tokenizer
    again = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    assert made.size == 270 and again.as_json() == made.as_json()
    odd = "ein Käse ☕ \x00\r\n"
    tokens = again.encode(odd.encode())
    assert tokens.dtype == np.uint16 and again.decode(tokens) == odd
    assert "".join(again.spell(tokens)) == odd and len(again.spell(tokens)) == len(tokens)
    assert again.decode(again.encode(b"a\xff")) == "a\ufffd"
    assert not again.about_unseen(b"\xff") and not again.unseen(b"\xff")


# Tokens on disk.

SMALL = {"dtype": "<u2", "block": 4, "shard": 12}


def test_tokens_are_read_across_shards(tmp_path):
    want = np.random.default_rng(0).integers(0, 1000, 41).astype(np.uint16)
    arrays = np.split(want, [0, 1, 9, 9, 30])
    layout = write_tokens(Layout(tmp_path, "train", **SMALL), arrays)
    assert [path.stat().st_size for path in layout.shards] == [24, 24, 24, 10]
    tokens = Tokens(layout)
    assert len(tokens) == 41
    at = np.random.default_rng(1).integers(0, 41, (5, 7))
    np.testing.assert_array_equal(tokens[at], want[at])


def test_only_what_is_asked_for_is_read_and_held_to_its_digest(tmp_path):
    layout = write_tokens(Layout(tmp_path, "train", **SMALL), [np.arange(30)])
    with layout.file(1).open("r+b") as file:
        file.seek(2 * 5)
        file.write(b"\xff")
    tokens = Tokens(layout)
    good = np.array([0, 11, 12, 15, 20, 29])
    np.testing.assert_array_equal(tokens[good], good)
    with pytest.raises(AlteredData, match="train-00001.tokens was altered: .* from 4 on"):
        tokens[np.array([[19]])]


# Command lines.


def files_of(folder):
    ours = (path for path in folder.iterdir() if path.name != "lock.json")
    return {path.name: path.read_bytes() for path in ours}


def test_a_run_on_tokens_goes_on_with_the_text_itself(call, text, tmp_path):
    text.write_bytes(TEXT * 4)
    out = tmp_path / "out"
    code, said, _ = call(command.main, text, "--out", out)
    assert code == 0 and "vocabulary: 26 character tokens" in said
    run = tmp_path / "run"
    for data in (out, text):
        options = "--steps", 10, "--sample-length", 0, "--data", data, "--run-dir", run
        code, said, error = call(train.main, "tiny", *options)
        assert code == 0, error
    assert "going on from step 10 " in said
    for module, *arguments in [
        (evaluate, run, "--data", out),
        (plot, run, "--data", out, "--tokens", 9, "--picture", tmp_path / "p.png"),
        (explain, run, "to be"),
        (sample, run, "--length", 3),
    ]:
        code, _, error = call(module.main, *arguments)
        assert code == 0, error


def refused_by_training(call, folder, *options):
    code, _, error = call(
        train.main, "tiny", "--data", folder, "--run-dir", folder / "run", *options
    )
    return code, error


KILLED = """
import os, sys
from pathlib import Path
from jaxrnn.data.prepare import prepare
def watch(doing, pieces, size):
    if doing == sys.argv[3]:
        os.kill(os.getpid(), 9)
    return pieces
prepare([Path(sys.argv[1])], Path(sys.argv[2]), "byte", watch=watch)
"""


@pytest.mark.parametrize("moment", ["reading", "test tokens"])
def test_what_was_killed_is_not_taken_for_whole_and_begins_anew(
    call, text, tmp_path, moment
):
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, text, out, moment]
    assert subprocess.run(words, cwd=ROOT).returncode == -9
    assert any(path.suffix == ".text" for path in out.iterdir())
    code, error = refused_by_training(call, out, "--tokens", "byte")
    assert code == 2 and f"the text in {out} was not prepared to the end" in error
    code, _, error = call(command.main, text, "--out", out, "--tokens", "byte")
    assert code == 0, error
    prepare([text], tmp_path / "undisturbed", "byte")
    assert files_of(out) == files_of(tmp_path / "undisturbed")


def test_a_full_disk_ends_it_with_a_sentence_and_gives_the_space_back(
    call, text, tmp_path, monkeypatch
):
    def full(path):
        if path.name == "valid-00000.tokens":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return lasting(path)

    lasting = shards.lasting
    monkeypatch.setattr(shards, "lasting", full)
    out = tmp_path / "out"
    code, _, error = call(command.main, text, "--out", out)
    assert code == 1 and "No space left on device" in error and error.count("\n") == 1
    assert list(files_of(out)) == [prepared.MANIFEST]
    assert refused_by_training(call, out)[0] == 2
    monkeypatch.undo()
    assert call(command.main, text, "--out", out)[0] == 0


def swap(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGES = {
    "a missing shard": ("valid-00000.tokens", Path.unlink, "is missing"),
    "a shard cut short": (
        "test-00000.tokens",
        lambda path: os.truncate(path, 9),
        "has 9 bytes, it was written with ",
    ),
    "other digests": ("train.sha256", swap, "was altered since it was written"),
    "another tokenizer": (
        "tokenizer.json",
        lambda path: path.write_text('{"kind": "character", "symbols": ["<unk>"]}'),
        "was altered since it was written",
    ),
    "another manifest": (
        "prepared.json",
        lambda path: path.write_text(path.read_text().replace("65536", "65537")),
        "was altered since it was written",
    ),
    "no manifest to read": ("prepared.json", swap, "prepared.json"),
}


@pytest.mark.parametrize("name, damage, reason", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_when_training_starts(
    call, text, tmp_path, name, damage, reason
):
    out = tmp_path / "out"
    prepare([text], out)
    damage(out / name)
    code, error = refused_by_training(call, out)
    assert code == 2 and reason in error and name in error and error.count("\n") == 1
    code, _, error = call(command.main, "--verify", out)
    assert code != 0 and name in error


def verify():
    sys.exit(command.main())


def test_an_altered_token_is_found_before_it_is_learned_from(call, text, tmp_path):
    out = tmp_path / "out"
    text.write_bytes(TEXT * 4)
    prepare([text], out)
    assert call(verify, "--verify", out)[0] == 0
    swap(out / "train-00000.tokens")
    code, error = refused_by_training(call, out)
    assert code == 1 and f"{out}/train-00000.tokens was altered: " in error
    code, said, _ = call(verify, "--verify", out)
    assert code == 1 and "train-00000.tokens: DAMAGED: " in said
    assert "valid-00000.tokens: good" in said


def test_another_kind_of_tokens_than_the_run_has_is_refused(call, text, tmp_path):
    prepare([text], tmp_path / "out", "word")
    code, error = refused_by_training(call, tmp_path / "out")
    assert code == 2 and "prepared with --tokens word, and the run has " in error
    code, error = refused_by_training(call, text, "--tokens", "bpe")
    assert code == 2 and "bpe is learned beforehand" in error


def test_what_cannot_be_prepared_is_refused_in_a_sentence(call, text, tmp_path):
    (tmp_path / "wrong").write_bytes(b"one\nt\xc3\xb6\xfcx")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "train-test").write_bytes(TEXT)
    (tmp_path / "valid").write_bytes(TEXT)
    (tmp_path / "spaces").write_bytes(b" " * 99)
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "train.text").write_bytes(TEXT)
    done = tmp_path / "done"
    prepare([text], done)
    out = "--out", tmp_path / "out"
    bpe = "--tokens", "bpe"
    for arguments, reason in [
        (
            (tmp_path / "wrong", *out),
            "wrong is not UTF-8 text: byte 0xfc in line 2, 7 ",
        ),
        ((text, tmp_path / "empty", *out), "empty is empty"),
        ((text, tmp_path / "empty", *out, "--tokens", "byte"), "empty is empty"),
        ((tmp_path, *out), "is a folder: name the files in it"),
        ((tmp_path / "none", *out), "there is no file "),
        (out, "there are no files to prepare"),
        ((text,), "--out is missing"),
        ((text, "--out", text), "text.txt is a file"),
        ((text, "--out", tmp_path / "filled"), "holds other things, such as train.text"),
        ((text, "--out", done), "holds prepared text already"),
        ((text, tmp_path / "valid", *out), "is for no split"),
        ((tmp_path / "train-test", tmp_path / "valid", *out), "is for train and test"),
        (
            (tmp_path / "valid", *out),
            "files for other splits, and none for train",
        ),
        ((tmp_path / "spaces", *out, "--tokens", "word"), "text holds not one word"),
        ((text, *out, "--split", 0.5, 0.1, 0.1), "three shares that add up to 1"),
        ((text, *out, *bpe), "bpe needs the number of tokens"),
        ((text, *out, *bpe, "--vocabulary", 99), "256 or more, got 99"),
        ((text, *out, "--vocabulary", 99), "is of words and bpe, not of character"),
        ((text, *out, "--tokens", "word", "--vocabulary", 0), "has 1 to 524288, got 0"),
        (("--verify", tmp_path), "holds no prepared text"),
        (("--verify", done, *out), "takes a folder, and neither files nor --out"),
    ]:
        code, _, error = call(command.main, *arguments)
        assert (code, error.count("\n")) == (2, 1) and reason in error, (arguments, error)
    assert list(files_of(tmp_path / "filled")) == ["train.text"]


@pytest.mark.parametrize("name", ["a b", "[x]*?", "-q'\"", "n\new", "caf\udce9", "☕"])
def test_any_path_will_do(call, tmp_path, name):
    home = tmp_path / name
    home.mkdir()
    (home / name).write_bytes(TEXT)
    code, _, error = call(command.main, home / name, "--out", home / "out")
    assert code == 0, error
    read_tokens(replace(TINY, data=home / "out"))


@pytest.mark.parametrize("size", [3, 4, 7, 1 << 20])
def test_a_file_in_pieces_is_the_file_and_is_refused_as_it_is(tmp_path, size):
    path = tmp_path / "file"
    for content in (TEXT, b"a\r\n\xef\xbb\xbf", b"\xef\xbb\xbfx\xef\xbb\xbf"):
        path.write_bytes(content)
        assert "".join(read_text_pieces(path, size)) == read_text(path)
    for content in (b"", b"\xef\xbb\xbf", b"ab\xc3", b"ab\n\xe2\x98\nabc", b"ab\n\0a"):
        path.write_bytes(content)
        with pytest.raises(ValueError) as whole:
            read_text(path)
        with pytest.raises(ValueError) as cut:
            list(read_text_pieces(path, size))
        assert str(cut.value) == str(whole.value)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_the_memory_does_not_grow_with_the_text(tmp_path):
    line = " ".join(f"wörd{n}" for n in range(5000)) + "\n"
    with (tmp_path / "text").open("w", encoding="utf-8") as file:
        for _ in range(60_000_000 // len(line.encode())):
            file.write(line)
    script = (
        "from experiments.language_model import prepare; prepare.main()\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    words = [sys.executable, "-c", script, tmp_path / "text", "--out", tmp_path / "out"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 400_000  # kilobytes at most
