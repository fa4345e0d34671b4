import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.sentiment import explain, predict, train
from experiments.sentiment.config import PRESETS, Config
from experiments.sentiment.data import (
    CORPORA,
    Corpus,
    Example,
    read_corpus,
    split_by_hash,
    table,
)
from experiments.sentiment.problem import (
    Sentiment,
    encode,
    make_model as model_of,
    make_problem,
)
from experiments.sentiment.run import Trained
from experiments.sentiment.trees import phrases
from experiments.sentiment.words import normal_form
from jaxrnn import GRU, LSTM, Bidirectional, Elman, VariationalDropout, unroll
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import AttentionPooling, Classifier, LastPooling, MaxPooling
from jaxrnn.training.run.run import Run
from jaxrnn.training.trainer import Trainer

# Words and trees.

SPANISH = "No me gustó la película al principio, pero el final fue extraordinario."


@pytest.mark.parametrize(
    "text, want",
    [
        ("A well-made, 1.5-hour film...", "a well-made , 1.5-hour film ..."),
        ("It's fun; don't you 'get' it?!", "it 's fun ; do n't you ' get ' it ? !"),
        ("They can’t wait -- nor will I.", "they ca n't wait -- nor will i ."),
        (
            SPANISH,
            "no me gustó la película al principio , pero el final fue extraordinario .",
        ),
        ("यह फ़िल्म बहुत अच्छी है।", "यह फ़िल्म बहुत अच्छी है ।"),
        ("电影很好，结局很糟。", "电影很好 ， 结局很糟 。"),
        (" \t", ""),
    ],
)
def test_a_raw_sentence_is_cut_into_words_once(text, want):
    assert normal_form(text) == want == normal_form(want)


def test_the_same_letters_are_the_same_word_however_they_are_encoded():
    assert normal_form("gusto\N{COMBINING ACUTE ACCENT}") == "gustó"


def test_a_tree_has_a_phrase_for_every_node():
    tree = "(3 (2 -LRB-) (4 (1 (2 Not) (0 bad)) (2 either\\/or)))"
    assert list(phrases(tree)) == [
        (2, ("(",)),
        (2, ("Not",)),
        (0, ("bad",)),
        (1, ("Not", "bad")),
        (2, ("either/or",)),
        (4, ("Not", "bad", "either/or")),
        (3, ("(", "Not", "bad", "either/or")),
    ]


@pytest.mark.parametrize("tree", ["", "(3", "(3)", "(5 a)", "(good film)", "a b", ")"])
def test_what_is_no_tree_is_refused(tree):
    with pytest.raises(ValueError, match="not a tree with labels from 0 to 4"):
        list(phrases(tree))


# Corpora.


@pytest.fixture
def treebank(tmp_path):
    (tmp_path / "trees").mkdir()
    tree = "(3 (2 A) (4 (3 lovely) (2 film)))"
    for name, trees in {
        "train": [tree, tree, "(1 (2 a) (0 bore))"],
        "dev": [tree, "(2 (2 a) (2 film))"],
        "test": ["(0 (2 a) (0 bore))"],
    }.items():
        (tmp_path / "trees" / f"{name}.txt").write_text("\n".join(trees) + "\n")
    return tmp_path


def test_two_classes_leave_out_what_is_neutral_and_take_every_phrase_once(treebank):
    labels, splits = CORPORA["sst-2"](treebank)
    assert labels == ("negative", "positive")
    assert splits == {
        "train": [
            ("lovely", 1),
            ("lovely film", 1),
            ("a lovely film", 1),
            ("bore", 0),
            ("a bore", 0),
        ],
        "valid": [("a lovely film", 1)],
        "test": [("a bore", 0)],
    }


def test_five_classes_take_all_as_they_were_judged(treebank):
    labels, splits = CORPORA["sst-5"](treebank)
    assert labels[0] == "very negative" and labels[2] == "neutral" and len(labels) == 5
    assert splits["train"][:3] == [("a", 2), ("lovely", 3), ("film", 2)]
    assert splits["valid"] == [("a lovely film", 3), ("a film", 2)]
    assert splits["test"] == [("a bore", 0)]


def test_where_a_text_falls_never_changes_and_the_same_text_falls_together():
    texts = [Example(f"text {n}", n % 2) for n in range(200)]
    splits = split_by_hash(texts + texts)
    assert [text for text, _ in splits["valid"]][:3] == ["text 9", "text 27", "text 76"]
    assert all(len(found) == 2 * len(set(found)) for found in splits.values())
    places = {name: {text for text, _ in found} for name, found in splits.items()}
    assert sum(map(len, places.values())) == len(set.union(*places.values())) == 200


def test_polarity_files_are_in_the_encoding_of_windows(tmp_path):
    for ending, word in (("neg", "cliché\x85"), ("pos", "naïve")):
        lines = "".join(f"{word} number {n} \n" for n in range(60))
        (tmp_path / f"rt-polarity.{ending}").write_bytes(lines.encode("latin-1"))
    splits = CORPORA["mr"](tmp_path).splits
    texts = {example for found in splits.values() for example in found}
    assert len(texts) == 120
    assert ("cliché… number 7", 0) in {(t.replace(" …", "…"), n) for t, n in texts}
    assert ("naïve number 7", 1) in texts


def test_a_table_of_any_language_names_its_own_classes(tmp_path):
    path = tmp_path / "reseñas.tsv"
    lines = [f"{('malo', 'bueno')[n % 2]}\tLa película {n}.\r\n" for n in range(100)]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    labels, splits = CORPORA["table"](path)
    assert labels == ("bueno", "malo")
    assert ("la película 4 .", 1) in {e for found in splits.values() for e in found}


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b"good\ta film\nno tab here\n",
            "line 2 of .* is not label TAB text: 'no tab here'",
        ),
        (b"good\t \n", "line 1 of .* is not label TAB text"),
        (b"good\ta film\n" * 30, r"needs two labels or more, it has \['good'\]"),
        (b"good\ta film\nbad\ta bore\n", "too few texts to divide"),
        (b"good\tna\xefve\n", "table.tsv is not UTF-8 text: byte 0xef in line 1"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "table.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        CORPORA["table"](path)


def rows_of(count=100, form="{label}\ta film number {n}"):
    return [form.format(label=("bad", "good")[n % 2], n=n) for n in range(count)]


@pytest.mark.parametrize(
    "mark", ["\u2028", "\x85", "\x0c", "\x0b", "\x1c", "\r"], ids=ascii
)
def test_a_table_keeps_lines_whole(tmp_path, mark):
    path = tmp_path / "table.tsv"
    lines = [*rows_of(), f"good\tone line{mark}of two"]
    path.write_bytes("\n".join(lines).encode())
    _, splits = CORPORA["table"](path)
    texts = [text for found in splits.values() for text, _ in found]
    assert len(texts) == 101 and "one line of two" in texts


@pytest.mark.parametrize(
    "lines, message",
    [
        (["label\ttext", *rows_of()], "label 'label' to learn from, in line 1:"),
        ([*rows_of(), "", "godo\ta film"], "label 'godo' to learn from, in line 102:"),
        ([*rows_of(), "good"], "line 101 of .*table.tsv is not label TAB text: 'good'"),
    ],
)
def test_a_class_in_silence_is_refused(tmp_path, lines, message):
    path = tmp_path / "table.tsv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        CORPORA["table"](path)


def test_a_table_of_a_spreadsheet_is_read_without_its_quotes(tmp_path):
    path = tmp_path / "table.tsv"
    lines = rows_of(form='"{label}"\t"He said ""hi""\tto {n}"')
    path.write_bytes("\ufeff".encode() + "\r\n\r\n".join([*lines, ""]).encode())
    labels, splits = CORPORA["table"](path)
    assert labels == ("bad", "good")
    texts = {text for found in splits.values() for text, _ in found}
    assert texts == {f'he said " hi " to {n}' for n in range(100)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=ascii)
def test_columns_are_found_by_their_headings(tmp_path, delimiter):
    path = tmp_path / "reviews.csv"
    rows = [
        [str(n), f'Film {n}, "fine"; or\r\nnot', ("bad", "good")[n % 2]] for n in range(99)
    ]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        written = csv.writer(file, delimiter=delimiter)
        written.writerows([["id", "review", " label "], *rows, []])
    labels, splits = table(path, "review")
    assert labels == ("bad", "good")
    texts = {example for found in splits.values() for example in found}
    assert texts == {(f'film {n} , " fine " ; or not', n % 2) for n in range(99)}
    config = replace(PRESETS["table"][1], data=path, text_column="review")
    assert read_corpus(config).digest() == Corpus(labels, splits).digest()
    with pytest.raises(ValueError, match="no columns 'label' and 'text': .*'id', 'review'"):
        table(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("text,label\na,good\nb\n", "line 3 of .* has 1 fields, its first line 2"),
        ("text,label\na,\n", "line 2 of .*csv has nothing in its column 'label'"),
        ("text,label\n ,bad\n", "line 2 of .*csv has nothing in its column 'text'"),
        ("text,label,text\na,b,c\n", "has 2 columns 'text'"),
        ('text,label\n"a,good\n', "line 2 of .*csv: unexpected end"),
    ],
)
def test_columns_that_are_none_are_refused(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        table(path)


def test_columns_are_of_a_table_alone():
    config = replace(PRESETS["tiny"][1], label_column="stars")
    with pytest.raises(ValueError, match="are of the corpus 'table', not 'toy'"):
        read_corpus(config)


def test_a_tree_that_is_none_is_named_with_its_line(treebank):
    path = treebank / "trees" / "dev.txt"
    for line in ("(3 (2 A) (9 film))", "(3 (2 A) (2 b)) (2 c)"):
        path.write_text(f"(2 (2 a) (2 film))\n\n{line}\n")
        with pytest.raises(ValueError, match="line 3 of .*dev.txt is not a tree"):
            CORPORA["sst-2"](treebank)


@pytest.mark.parametrize(
    "corpus, message",
    [
        ("sst-2", "no trees/train.txt in the folder .*: .*trainDevTestTrees_PTB.zip"),
        ("mr", "no rt-polarity.neg in the folder .*: .*rt-polaritydata.tar.gz"),
    ],
)
def test_a_missing_set_is_named_with_its_source(tmp_path, corpus, message):
    with pytest.raises(ValueError, match=message):
        CORPORA[corpus](tmp_path)


def test_a_table_needs_a_file():
    with pytest.raises(ValueError, match="needs --data: a file of lines label TAB text"):
        CORPORA["table"](None)


@pytest.mark.skipif("JAXRNN_DATA" not in os.environ, reason="JAXRNN_DATA names no data")
@pytest.mark.parametrize(
    "corpus, data, counts",
    [
        ("sst-2", "sst", (77_201, 872, 1_821)),
        ("sst-5", "sst", (157_400, 1_101, 2_210)),
        ("mr", "mr", (8_577, 1_022, 1_063)),
    ],
)
def test_real_sets_have_their_published_sizes(corpus, data, counts):
    splits = CORPORA[corpus](Path(data)).splits
    assert tuple(map(len, splits.values())) == counts


# Pooling.

T, B, E, H = 5, 4, 3, 2
# Whole, ended early, with holes, and a column without a step.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0] * 5], bool).T
KEY = jax.random.key(0)


def max_of(ys):
    return ys.max(axis=0)


def attention_of(pooling):
    w, v = pooling.hidden.kernel[...], pooling.score.kernel[...]

    def pool(ys):
        scores = np.exp(np.tanh(ys @ w) @ v)
        return (scores / scores.sum() * ys).sum(axis=0)

    return pool


def last_of(ys):
    return np.concatenate([ys[-1, :H], ys[0, H:]])


ATTENTION = AttentionPooling(2 * H, 3, rngs=nnx.Rngs(params=KEY))
POOLINGS = {
    "max": (MaxPooling(), max_of),
    "attention": (ATTENTION, attention_of(ATTENTION)),
    "last": (LastPooling(H), last_of),
}
every_pooling = pytest.mark.parametrize("pooling, by_hand", POOLINGS.values(), ids=POOLINGS)


@every_pooling
def test_pooling_takes_valid_steps_only(pooling, by_hand):
    # Below zero, so that the zeros of masked steps would be the largest.
    ys = -1 - np.random.default_rng(0).random((T, B, 2 * H), np.float32)
    ys[~MASK] = 0
    got = pooling(jnp.asarray(ys), jnp.asarray(MASK))
    for column in range(B - 1):
        want = by_hand(ys[MASK[:, column], column])
        np.testing.assert_allclose(got[column], want, rtol=1e-5)
    assert not got[B - 1].any()


@every_pooling
def test_a_column_without_a_step_has_no_gradient(pooling, by_hand):
    ys = jax.random.normal(KEY, (T, B, 2 * H))
    gradient = jax.grad(lambda ys: jnp.sum(pooling(ys, jnp.asarray(MASK)) ** 2))(ys)
    assert np.isfinite(gradient).all()
    assert not gradient[:, B - 1].any() and gradient[:, B - 2].any()


# The classifier.

V, CLASSES = 7, 3
CELLS = {"lstm": LSTM(E, H), "variational gru": VariationalDropout(GRU(E, H), 0.5)}


@cache
def make_model(cell=CELLS["lstm"], pooling="last", **options):
    return Classifier(
        V,
        E,
        [Bidirectional(cell, cell)],
        CLASSES,
        pooling=POOLINGS[pooling][0],
        rngs=nnx.Rngs(params=jax.random.key(1)),
        **options,
    )


@nnx.jit
def run(model, tokens, mask=None, key=None):
    return model(tokens, mask=mask, key=key)


def some_tokens(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, V, shape), jnp.int32)


@pytest.mark.parametrize(
    "cell, pooling",
    [("lstm", "max"), ("lstm", "attention"), ("lstm", "last"), ("variational gru", "max")],
)
def test_what_follows_a_sentence_and_stands_beside_it_changes_nothing(cell, pooling):
    model, tokens = make_model(CELLS[cell], pooling), some_tokens(T, 2)
    lengths = (5, 2)
    masks = jnp.arange(8)[:, None] < jnp.array([*lengths, 0])
    padded = (
        some_tokens(8, 3, seed=1)
        .at[:T, :2]
        .set(jnp.where(masks[:T, :2], tokens, some_tokens(T, 2, seed=2)))
    )
    together = run(model, padded, masks)
    for column, length in enumerate(lengths):
        alone = run(model, tokens[:length, column])
        np.testing.assert_allclose(together[column], alone, atol=1e-6)
    np.testing.assert_allclose(together[2], model.output.bias[...], atol=1e-6)


def test_a_classifier_is_a_loop_of_steps_in_both_directions():
    model, tokens = make_model(), some_tokens(T, 2)
    cell, ends = CELLS["lstm"], []
    for params, order in zip(model.layers[0].arrays(), (tokens, tokens[::-1]), strict=True):
        carry = cell.initial_carry(params, (2,))
        for token in order:
            carry, y = cell.step(params, carry, model.embedding.embedding[...][token])
        ends.append(y)
    want = jnp.concatenate(ends, -1) @ model.output.kernel[...] + model.output.bias[...]
    np.testing.assert_allclose(run(model, tokens), want, atol=1e-6)


def test_without_a_key_there_is_no_noise():
    noisy = make_model(CELLS["variational gru"], dropout=0.5, word_dropout=0.5)
    still = make_model(CELLS["variational gru"])
    tokens = some_tokens(T, 2)
    chex.assert_trees_all_equal(run(noisy, tokens), run(still, tokens))


@pytest.mark.parametrize(
    "cell, options",
    [
        (CELLS["lstm"], {"dropout": 0.5}),
        (CELLS["lstm"], {"word_dropout": 0.5}),
        (CELLS["variational gru"], {}),
    ],
)
def test_every_noise_depends_on_the_key_alone(cell, options):
    model, tokens = make_model(cell, **options), some_tokens(T, 8)
    first, again, other = (
        run(model, tokens, key=key) for key in (KEY, KEY, jax.random.key(5))
    )
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(first, run(model, tokens))


def test_noise_and_dropout_are_those_of_their_keys_to_the_bit():
    model, tokens = make_model(CELLS["variational gru"], dropout=0.5), some_tokens(T, 2)
    (layer,), mask = model.layers, jnp.ones((T, 2), bool)
    _, key_pooled, key_layer = jax.random.split(KEY, 3)
    key_noise, key_dropout = jax.random.split(key_layer)
    xs = model.dropout_over_time(model.embedding(tokens), rngs=key_dropout)
    noisy = layer.recurrence.with_noise(layer.arrays(), key_noise, T, (2,))
    ys = unroll(layer.recurrence, noisy, xs, mask=mask)[1]
    pooled = model.dropout(model.pooling(ys, mask), rngs=key_pooled)
    chex.assert_trees_all_equal(model(tokens, key=KEY), model.output(pooled))


def test_word_dropout_replaces_its_share_of_tokens_by_the_unknown_one():
    cell = Elman(E, H)
    model = make_model(cell, "max", word_dropout=0.25, unknown=6)
    tokens = jnp.zeros((1, 4000), jnp.int32)
    logits = run(model, tokens, key=KEY)
    kept, replaced = (run(model, jnp.full((1, 1), token)) for token in (0, 6))
    assert np.abs(kept - replaced).max() > 1e-3
    unknown = np.isclose(logits, replaced, atol=1e-6).all(axis=1)
    assert np.isclose(logits[~unknown], kept, atol=1e-6).all()
    assert abs(unknown.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_dropout_drops_the_same_features_at_every_time_step():
    def spread(ys, mask):
        return jnp.max(ys, axis=0) - jnp.min(ys, axis=0)

    model = Classifier(
        V, E, [Elman(E, E)], CLASSES, pooling=spread, dropout=0.5, rngs=nnx.Rngs(params=KEY)
    )
    params = model.layers[0].params
    params.w_h[...] = jnp.zeros((E, E))
    model.output.bias[...] = jnp.arange(3.0)
    # One token again and again, and no memory: the outputs differ only if the noise does.
    logits = run(model, jnp.ones((T, B), jnp.int32), key=KEY)
    np.testing.assert_array_equal(logits, jnp.broadcast_to(jnp.arange(3.0), (B, 3)))
    other = run(model, some_tokens(T, B), key=KEY)
    assert not np.allclose(other, logits)


@pytest.mark.parametrize(
    "layers, options, message",
    [
        ([], {}, "at least one layer"),
        ([Elman(4, 3)], {}, "takes 4 features, not 3"),
        ([Elman(3, 3)], {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ([Elman(3, 3)], {"word_dropout": -0.1}, r"word_dropout must lie in \[0, 1\)"),
    ],
)
def test_a_classifier_that_cannot_be_is_refused(layers, options, message):
    with pytest.raises(ValueError, match=message):
        Classifier(V, E, layers, 2, pooling=MaxPooling(), rngs=nnx.Rngs(0), **options)


# The problem.

TINY = Config(corpus="toy", cell="elman", hidden_size=3, embedding_size=4, batch_size=16)
TEXTS = [
    Example("the film was good", 1),
    Example("the film was bad not good", 1),
    Example("the plot was dull", 0),
    Example("the cast was not that bad", 0),
    Example("the plot was good", 0),
]
TOKENIZER = Tokenizer.of("word", b"the film was good bad plot cast")


def a_problem(texts, **changes):
    """Of these texts, and its parameters."""
    splits = dict.fromkeys(("train", "valid", "test"), texts)
    config = replace(TINY, **changes)
    problem = Sentiment(config, TOKENIZER, Corpus(("negative", "positive"), splits))
    return problem, problem.init(KEY)[0]


def measured(problem, params):
    return Trainer(problem, optax.identity()).measure(params, "valid")


def test_evaluation_counts_every_text_once():
    problem, params = a_problem(TEXTS)
    got = measured(problem, params)
    model, nats, right = problem.model(params), [], []
    for text, label in TEXTS:
        logits = run(model, jnp.asarray(encode(TOKENIZER, text, 400)))
        nats.append(-jax.nn.log_softmax(logits)[label])
        right.append(np.argmax(logits) == label)
    assert got["accuracy"] == pytest.approx(np.mean(right))
    assert got["error"] == pytest.approx(1 - np.mean(right))
    assert got["loss"] == pytest.approx(np.mean(nats), abs=1e-6)
    assert "share" not in got


def test_the_loss_is_the_mean_over_sentences_and_l2_leaves_the_embedding_alone():
    short = [e for e in TEXTS if e.text.count(" ") == 3]
    problem, params = a_problem(short)
    (batch,) = problem.evaluation("train")
    assert batch.labels.shape == (16,) and batch.mask.any(0).sum() == 3

    def descended(problem):
        loss = jax.value_and_grad(lambda p: problem.loss(p, (), batch, None)[0])
        return jax.jit(loss)(params)

    without, plain = descended(problem)
    assert float(without) == pytest.approx(measured(problem, params)["loss"], abs=1e-6)
    value, gradient = descended(a_problem(short, l2=0.2)[0])
    leaves = jax.tree.leaves_with_path(params)
    others = [leaf for path, leaf in leaves if "embedding" not in str(path)]
    assert len(others) == len(leaves) - 1
    want = float(without) + 0.1 * sum(float(jnp.sum(leaf**2)) for leaf in others)
    assert float(value) == pytest.approx(want, abs=1e-5)
    chex.assert_trees_all_close(gradient["embedding"], plain["embedding"], atol=1e-7)


def test_long_texts_are_cut():
    assert encode(TOKENIZER, "bad " * 9, 4).shape == (4,)


@pytest.mark.parametrize("tokens", ["word", "character", "byte"])
def test_any_alphabet_is_read_whatever_was_learned(tokens):
    tokenizer = Tokenizer.of(tokens, b"only english letters")
    for text in (SPANISH, "电影很好", "\x00 😀"):
        numbers = encode(tokenizer, normal_form(text), 400)
        assert len(numbers) and 0 <= numbers.min() and numbers.max() < tokenizer.size


# The commands.


def result(run_dir):
    return json.loads((run_dir / "result.json").read_text())


@pytest.mark.slow
def test_a_run_learns_resumes_predicts_and_explains(call, tmp_path, monkeypatch):
    # The cell that compiles fastest.
    tiny = ("tiny", "--cell", "elman", "--steps", 40, "--run-dir")
    code, _, errors = call(train.main, *tiny, tmp_path / "whole")
    assert code == 0, errors
    figures = result(tmp_path / "whole")
    assert figures["valid_accuracy"] > 0.9 and figures["test_accuracy"] > 0.9
    assert figures["valid_error"] == pytest.approx(1 - figures["valid_accuracy"])

    batch = Sentiment.batch

    def interrupting(self, step, rows):
        if step == 26:
            signal.raise_signal(signal.SIGINT)
        return batch(self, step, rows)

    monkeypatch.setattr(Sentiment, "batch", interrupting)
    code, output, _ = call(train.main, *tiny, tmp_path / "cut")
    assert code == 128 + signal.SIGINT and "stopped at step 27" in output
    code, output, errors = call(train.main, *tiny, tmp_path / "cut")
    assert code == 0 and "going on from step 27" in output, errors
    assert result(tmp_path / "cut")["state_sha256"] == figures["state_sha256"]

    sentence = "The plot was bad, but the film was great"
    code, output, errors = call(predict.main, tmp_path / "whole", sentence, SPANISH)
    first, second = output.splitlines()
    assert code == 0, errors
    assert first.startswith("positive  (negative 0.") and first.endswith(sentence)
    assert second.endswith(SPANISH)

    code, output, errors = call(explain.main, tmp_path / "whole", sentence)
    assert code == 0, errors
    *rows, drawn, coloured = output.splitlines()
    shares = [float(row.split()[-1]) for row in rows]
    assert [row.split()[0] for row in rows][4:6] == [",", "but"]
    assert shares[3] < 0.3 and shares[-1] > 0.7
    picture = tmp_path / "whole" / "explain.png"
    assert drawn == f"drawn: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = picture.with_suffix(".html")
    assert coloured == f"coloured: {page}"
    words = re.findall(r'title="(-?[0-9.]+)">(\S+) </span>', page.read_text())
    assert [word for _, word in words] == [row.split()[0] for row in rows]

    code, _, errors = call(predict.main, tmp_path / "whole", " ")
    assert code == 2 and errors == "error: a text needs at least one word, got ' '\n"


def test_lines_of_a_pipe_are_answered_one_by_one_until_nobody_reads(tmp_path):
    config = replace(PRESETS["tiny"][1], run_dir=tmp_path, cell="elman")
    with Run(config.make_trainer(make_problem(config)), config) as run:
        run.store.save(0, run.state)
    predict = [sys.executable, "-m", "experiments.sentiment.predict", str(tmp_path)]
    with subprocess.Popen(
        predict,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:

        def answer(line):
            process.stdin.write(line)
            process.stdin.flush()
            return process.stdout.readline()

        assert answer("a good ☕\r\n".encode()).decode().endswith(")  a good ☕\n")
        assert answer(b"\n") == b"\n"
        assert answer(b"caf\xe9\n").decode().endswith(")  caf\N{REPLACEMENT CHARACTER}\n")
        process.stdout.close()
        _, error = process.communicate(b"nobody\nreads\nthis\n")
    assert (process.returncode, error) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
def test_texts_of_similar_length_share_a_program(tmp_path):
    config = PRESETS["tiny"][1]
    tokenizer = Tokenizer.of("word", b"a film")
    pure = model_of(config, tokenizer, 2)
    model = pure(pure.init(jax.random.key(0)))
    trained = Trained(model, tokenizer, ("bad", "good"), replace(config, longest=30))
    alone = [trained.probabilities(["a film " * n])[0] for n in (1, 2, 10)]
    for n, shares in zip((1, 2, 10), alone, strict=True):
        tokens = encode(tokenizer, "a film " * n, 30)
        want = model(jnp.asarray(tokens[:, None]), mask=jnp.ones((2 * n, 1), bool))
        np.testing.assert_allclose(shares, jax.nn.softmax(want[0]), rtol=1e-5)
    lengths = [trained.padded(n) for n in range(1, 31)]
    assert len(set(lengths)) < 7 and max(lengths) == 30
    assert all(length >= n for n, length in enumerate(lengths, 1))


@pytest.mark.parametrize("tokens", ["word", "byte"])
def test_the_telling_unit_is_the_one_whose_loss_hurts_the_answer_most(tokens):
    config = replace(PRESETS["tiny"][1], tokens=tokens)
    tokenizer = Tokenizer.of(tokens, b"el final fue extraordinario")
    pure = model_of(config, tokenizer, 3)
    model = pure(pure.init(jax.random.key(0)))
    trained = Trained(model, tokenizer, ("a", "b", "c"), replace(config, longest=20))
    spelled, values = trained.telling_unit(SPANISH)
    read = encode(tokenizer, normal_form(SPANISH), 20)
    assert len(spelled) == len(values) == len(read)
    if tokens == "word":
        assert "".join(spelled).split() == normal_form(SPANISH).split()[:20]

    column, mask = jnp.asarray(read[:, None]), jnp.ones((len(read), 1), bool)
    ys = np.asarray(model.outputs(column, mask)[:, 0])
    logits, kernel = model(column, mask=mask)[0], model.output.kernel[...]
    answer, above = jnp.argmax(logits), []
    for unit in range(ys.shape[1]):
        model.output.kernel[...] = kernel.at[unit].set(0)
        lost = model(column, mask=mask)[0]
        above.append(lost[answer] - jnp.mean(lost))
    np.testing.assert_allclose(values, ys[:, np.argmin(above)], rtol=1e-5, atol=1e-7)


def test_commands_refuse_in_one_sentence(call, tmp_path):
    code, _, errors = call(predict.main, tmp_path / "none", "text")
    assert code == 2 and "no run at" in errors and errors.count("\n") == 1
    options = ("--run-dir", tmp_path / "run", "--data", tmp_path / "nothing")
    code, _, errors = call(train.main, "sst2", *options)
    assert code == 2 and "trainDevTestTrees_PTB.zip" in errors
    assert errors.count("\n") == 1 and not (tmp_path / "run").exists()
