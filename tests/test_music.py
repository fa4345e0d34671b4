import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.io import savemat

from experiments.music import plot, train
from experiments.music.candidates import (
    add_noise,
    best_of,
    draw_factors,
    for_each,
    mean_of_finite,
)
from experiments.music.config import PRESETS, Config
from experiments.music.pieces import KEYS, cut, made_up, marginal_nats, read_splits
from experiments.music.problem import Batch, Music, as_batch
from experiments.music.selection import make_selection
from jaxrnn import LSTM, Elman, Residual, WeightDrop, unroll
from jaxrnn.models import SequenceModel
from jaxrnn.training.run.directory import write_json
from jaxrnn.training.run.metrics import read_metrics
from jaxrnn.training.run.run import Run
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.trainer import Trainer

SMALL = Config(cell="elman", hidden_size=3, candidates=2, batch_size=2, data=None)


def some_pieces(*lengths):
    draw = np.random.default_rng(0)
    return [(draw.random((length, KEYS)) < 0.1).astype(np.uint8) for length in lengths]


# The pieces.


@pytest.mark.parametrize("frames", [2, 3, 7, 8])
@pytest.mark.parametrize("length", [1, 3, 6, 10])
def test_parts_of_a_piece_predict_each_frame_but_the_first_once(frames, length):
    (piece,) = some_pieces(frames)
    parts = cut([piece], length)
    np.testing.assert_array_equal(np.concatenate([p[1:] for p in parts]), piece[1:])
    np.testing.assert_array_equal(parts[0][0], piece[0])
    for before, after in zip(parts, parts[1:], strict=False):
        np.testing.assert_array_equal(before[-1], after[0])
    assert all(2 <= len(part) <= length + 1 for part in parts)


def test_the_baseline_knows_each_keys_frequency_only():
    train = [np.array([[1, 0], [1, 1]], np.uint8)]
    piece = np.array([[0, 0], [1, 0], [0, 1]], np.uint8)
    # Chances 3/4 and 2/4; the first frame of the piece is not scored.
    want = -(np.log(3 / 4) + np.log(1 / 2) + np.log(1 / 4) + np.log(1 / 2)) / 2
    assert marginal_nats(train, [piece]) == pytest.approx(want)


@pytest.mark.skipif("JAXRNN_DATA" not in os.environ, reason="JAXRNN_DATA names no data")
@pytest.mark.parametrize(
    "name, pieces, frames, baseline",
    [
        ("JSB_Chorales", (229, 76, 77), (13_807, 4_602, 4_725), 11.09),
        ("Nottingham", (694, 173, 170), (176_561, 45_513, 44_463), 10.26),
        ("MuseData", (524, 135, 124), (245_202, 82_755, 64_339), 11.51),
        ("Piano_midi", (87, 12, 25), (75_911, 8_540, 19_036), 11.05),
    ],
)
def test_real_music_has_the_known_counts_and_baselines(name, pieces, frames, baseline):
    splits = read_splits(Path(f"poly_music/{name}.mat"))
    assert tuple(map(len, splits.values())) == pieces
    assert tuple(sum(map(len, split)) for split in splits.values()) == frames
    assert round(marginal_nats(splits["train"], splits["test"]), 2) == baseline


def as_cells(*pieces):
    cells = np.empty((1, len(pieces)), object)
    cells[0, :] = pieces
    return cells


def write_music(path, **changes):
    names = ("traindata", "validdata", "testdata")
    savemat(path, {name: as_cells(*some_pieces(5, 9)) for name in names} | changes)
    return path


def test_a_matlab_file_is_read_piece_by_piece(tmp_path):
    splits = read_splits(write_music(tmp_path / "music.mat"))
    assert list(splits) == ["train", "valid", "test"]
    for got, want in zip(splits["valid"], some_pieces(5, 9), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.uint8


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"testdata": as_cells(np.zeros((5, 87)))}, r"88 keys, piece 0 is \[5, 87\]"),
        ({"traindata": as_cells(np.zeros((1, 88)))}, "2 or more frames"),
        ({"validdata": as_cells(np.full((4, 88), 2))}, "other than 0 and 1"),
        ({"testdata": as_cells()}, "testdata of .* has no pieces"),
    ],
)
def test_music_of_another_form_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_splits(write_music(tmp_path / "music.mat", **changes))


def test_a_file_that_holds_no_music_is_refused(tmp_path):
    path = tmp_path / "music.mat"
    with pytest.raises(ValueError, match=r"no music at .*JSB_Chorales\.mat"):
        read_splits(path)
    savemat(path, {"songs": np.zeros(3)})
    with pytest.raises(ValueError, match="has no 'traindata'; it has .*songs"):
        read_splits(path)
    whole = write_music(path).read_bytes()
    spoiled = whole[:128] + b"\xff" + whole[129:]  # no ValueError of SciPy's
    for content in (b"no MATLAB file", b"", whole[:900], spoiled):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as a MATLAB v5 file"):
            read_splits(path)


# The model.


def small_model(**options):
    layers = (LSTM(4, 5), Elman(5, 3))
    return SequenceModel(layers, 2, rngs=nnx.Rngs(params=jax.random.key(0)), **options)


def test_a_sequence_model_is_its_layers_and_a_linear_map():
    model, xs = small_model(), jax.random.normal(jax.random.key(1), (6, 2, 4))
    ys = xs
    for layer in model.layers:
        _, ys = unroll(layer.recurrence, layer.arrays(), ys)
    assert model.output.bias is not None
    want = ys @ model.output.kernel[...] + model.output.bias[...]
    carry, got = model(xs)
    chex.assert_trees_all_close(got, want, atol=1e-6)
    chex.assert_trees_all_equal_shapes_and_dtypes(carry, model.initial_carry((2,)))

    carry, first = model(xs[:3])
    _, second = model(xs[3:], carry)
    chex.assert_trees_all_close(jnp.concatenate([first, second]), want, atol=1e-6)


def test_dropout_happens_with_a_key_only_and_the_same_for_the_same_key():
    xs = jnp.ones((3, 2, 4))
    plain, model = small_model(), small_model(dropout=0.5)
    chex.assert_trees_all_equal(model(xs), plain(xs))
    chex.assert_trees_all_equal(plain(xs, key=jax.random.key(0)), plain(xs))
    first, second = jax.random.split(jax.random.key(0))
    dropped = model(xs, key=first)[1]
    assert not np.allclose(dropped, model(xs)[1])
    assert not np.allclose(dropped, model(xs, key=second)[1])
    chex.assert_trees_all_equal(model(xs, key=first)[1], dropped)


def test_the_noise_of_a_layer_happens_with_a_key_only():
    model = SequenceModel([WeightDrop(LSTM(4, 5), 0.5)], 2, rngs=nnx.Rngs(0))
    xs = jax.random.normal(jax.random.key(1), (6, 2, 4))
    first, again, other = (model(xs, key=jax.random.key(s))[1] for s in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first, model(xs)[1]) and not np.allclose(first, other)


def test_dropout_is_that_of_its_keys_to_the_bit_whatever_noise_is_drawn():
    model, key = small_model(dropout=0.5), jax.random.key(3)
    ys = xs = jax.random.normal(jax.random.key(1), (6, 2, 4))
    for number, layer in enumerate(model.layers):
        _, ys = unroll(layer.recurrence, layer.arrays(), ys)
        ys = model.dropout(ys, rngs=jax.random.fold_in(key, number))
    chex.assert_trees_all_equal(model(xs, key=key)[1], model.output(ys))


def test_dropout_has_masks_of_its_own_after_each_layer():
    layers = [Residual(Elman(64, 64))] * 2
    model = SequenceModel(layers, 64, dropout=0.5, rngs=nnx.Rngs(0))
    # Without weights they hand on what they get: both masks have kept what comes out.
    nnx.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model)))
    model.output.kernel[...] = jnp.eye(64)
    kept = np.asarray(model(jnp.ones((50, 64)), key=jax.random.key(0))[1])
    assert set(np.unique(kept)) == {0.0, 4.0}
    assert (kept > 0).mean() == pytest.approx(0.25, abs=0.03)
    assert len(np.unique(kept, axis=0)) == 50  # and for every time step


@pytest.mark.parametrize(
    "layers, dropout, message",
    [
        ((), 0.0, "at least one layer"),
        ((LSTM(4, 5), LSTM(4, 5)), 0.0, "takes 4 features, not 5"),
        ((LSTM(4, 5),), 1.0, r"\[0, 1\), got 1.0"),
    ],
)
def test_a_sequence_model_that_does_not_fit_is_refused(layers, dropout, message):
    with pytest.raises(ValueError, match=message):
        SequenceModel(layers, 2, dropout=dropout, rngs=nnx.Rngs(0))


# The loss and its measure.


def a_problem(*lengths, **changes):
    """Of pieces of these lengths; and parameters of its candidates."""
    splits = dict.fromkeys(("train", "valid", "test"), some_pieces(*lengths))
    problem = Music(replace(SMALL, **changes), splits)
    return problem, problem.init(jax.random.key(0))[0]


def nats_by_hand(model, piece):
    """Of the frames of one piece but the first, in NumPy, frame by frame."""
    cell = jax.tree.map(np.asarray, model.layers[0].arrays())
    kernel = np.asarray(model.output.kernel[...])
    bias = np.asarray(model.output.bias[...])
    h, nats = np.zeros(len(cell.b)), 0.0
    for frame, after in zip(piece, piece[1:], strict=False):
        h = np.tanh(frame @ cell.w_x + h @ cell.w_h + cell.b)
        chance = 1 / (1 + np.exp(-(h @ kernel + bias)))
        nats -= np.sum(np.log(np.where(after == 1, chance, 1 - chance)))
    return nats


def candidate(params, number):
    return jax.tree.map(lambda leaf: leaf[number], params)


def pick(params, number):
    """The candidate with the axis of candidates kept."""
    return jax.tree.map(lambda leaf: leaf[number : number + 1], params)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_measure_pools_the_frames_of_pieces_of_all_lengths(batch_size):
    problem, params = a_problem(2, 7, 4, 40, batch_size=batch_size)
    got = Trainer(problem, optax.identity()).measure(params, "valid")["losses"]
    for number in range(2):
        model = problem.model(candidate(params, number))
        nats = [nats_by_hand(model, piece) for piece in problem.splits["valid"]]
        assert got[number] == pytest.approx(sum(nats) / (1 + 6 + 3 + 39), rel=1e-5)
    assert abs(got[0] - got[1]) > 1e-3  # each candidate begins elsewhere


@partial(jax.jit, static_argnums=0)
def gradient(problem, params, batch, key):
    return jax.value_and_grad(lambda p: problem.loss(p, (), batch, key)[0])(params)


def test_padding_is_seen_by_neither_loss_nor_gradient():
    problem, params = a_problem(3, 7)
    key, (batch,) = jax.random.key(0), problem.evaluation("test")
    noise = np.random.default_rng(1).integers(0, 2, batch.inputs.shape, np.uint8)
    padded = Batch(
        # The last frame of a piece predicts nothing, so it is padding among the inputs.
        inputs=np.where(batch.mask[..., None], batch.inputs, noise),
        targets=np.where(batch.mask[..., None], batch.targets, noise),
        mask=batch.mask,
    )
    assert (padded.inputs != batch.inputs).any()
    chex.assert_trees_all_equal(
        gradient(problem, params, batch, key), gradient(problem, params, padded, key)
    )
    nats = [
        nats_by_hand(problem.model(candidate(params, number)), piece)
        for number in range(2)
        for piece in some_pieces(3, 7)
    ]
    value, _ = gradient(problem, params, batch, key)
    assert value == pytest.approx(sum(nats) / 2 / (2 + 6), rel=1e-5)


def test_candidates_learn_nothing_from_one_another():
    problem, params = a_problem(3, 7)
    (batch,), key = problem.evaluation("test"), jax.random.key(0)
    _, together = gradient(problem, params, batch, key)
    alone, _ = a_problem(3, 7, candidates=1)
    for number in range(2):
        _, got = gradient(alone, pick(params, number), batch, key)
        # The mean over two candidates halves each one's gradient.
        want = jax.tree.map(lambda leaf: 2 * leaf, pick(together, number))
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)


def test_weight_noise_is_drawn_by_key_and_candidate_with_the_deviation_asked_for():
    params = {"a": jnp.ones((200, 50)), "b": jnp.ones((200, 50))}
    noisy = add_noise(params, jax.random.key(0), 0.075)
    drawn = np.stack([noisy["a"], noisy["b"]]) - 1
    assert drawn.std() == pytest.approx(0.075, rel=0.03)
    assert abs(drawn.mean()) < 0.003
    assert abs(np.corrcoef(drawn.reshape(2, -1))[0, 1]) < 0.05

    problem, params = a_problem(3, 7, weight_noise=0.075)
    equal = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 2), params)
    (batch,), keys = problem.evaluation("test"), jax.random.split(jax.random.key(0))
    first, slopes = gradient(problem, equal, batch, keys[0])
    again, _ = gradient(problem, equal, batch, keys[0])
    other, _ = gradient(problem, equal, batch, keys[1])
    assert first == again != other
    for leaf in jax.tree.leaves(slopes):
        assert not np.allclose(leaf[0], leaf[1], rtol=1e-3)


# The candidates.


@pytest.fixture(scope="module")
def music():
    return make_selection(PRESETS["tiny"][1])


def test_learning_rates_are_drawn_log_uniformly():
    drawn = np.log(draw_factors(4000, 3.0, seed=0))
    assert -3 <= drawn.min() < -2.9 and 2.9 < drawn.max() <= 3
    assert drawn.mean() == pytest.approx(0, abs=0.1)
    assert drawn.std() == pytest.approx(3 / np.sqrt(3), rel=0.03)
    assert (draw_factors(3, 0.0, seed=1) == 1).all()
    assert (draw_factors(3, 1.0, seed=1) != draw_factors(3, 1.0, seed=2)).all()
    for wrong in ((0, 1.0), (3, -1.0)):
        with pytest.raises(ValueError, match="candidates must be 1 or more"):
            draw_factors(*wrong, seed=0)


def test_an_optimiser_for_each_is_that_of_every_candidate_alone():
    config = Config(optimiser="rmsprop", learning_rate=0.1, clip=1.0)
    factors = np.array([0.5, 3.0], np.float32)
    draw = np.random.default_rng(0)
    # Of one candidate the norm is clipped, of the other it is not.
    sizes = np.array([100.0, 0.01])[:, None]
    params = {"w": jnp.asarray(draw.normal(size=(2, 4)), jnp.float32)}
    gradients = [
        {"w": jnp.asarray(sizes * draw.normal(size=(2, 4)), jnp.float32)} for _ in range(3)
    ]
    together = for_each(config.make_optimiser(), factors).transform
    state = together.init(params)
    alone, states = [], []
    for number, factor in enumerate(factors):
        scaled = replace(config, learning_rate=0.1 * float(factor)).make_optimiser()
        alone.append(scaled.transform)
        states.append(scaled.transform.init(candidate(params, number)))
    for gradient in gradients:
        halves = jax.tree.map(lambda leaf: leaf / 2, gradient)  # of the mean loss
        updates, state = together.update(halves, state, params)
        for number in range(2):
            want, states[number] = alone[number].update(
                candidate(gradient, number), states[number], candidate(params, number)
            )
            chex.assert_trees_all_close(candidate(updates, number), want, rtol=1e-5)


class Huge(Music):
    """Its second candidate is so large that a product of two numbers overflows."""

    def init(self, key):
        params, carry = super().init(key)
        return jax.tree.map(lambda leaf: leaf.at[1].set(3e38), params), carry


def test_a_candidate_that_is_not_finite_is_left_out_and_the_others_go_on(tmp_path):
    options = {"candidates": 3, "weight_noise": 0.0, "steps": 2, "eval_every": 1}
    config = replace(PRESETS["tiny"][1], run_dir=tmp_path, hidden_size=3, **options)
    broken = replace(make_selection(config), problem=Huge(config, made_up()))
    before = jax.tree.map(np.asarray, broken.init(config.seed).params)
    with Run(broken, config) as run:
        assert run.train(StopRequest())
        figures, after = run.finish(), run.state
    assert int(after.skipped) == 0
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(after.params), strict=True
    ):
        assert (np.asarray(new[1]) == np.float32(3e38)).all()
        for other in (0, 2):
            assert not np.array_equal(old[other], new[other])
    for leaf in jax.tree.leaves(after.opt_state):
        assert np.isfinite(leaf).all()
    rate = config.learning_rate * draw_factors(3, config.rate_spread, config.seed)[1]
    assert figures["valid_left_out_1"] == pytest.approx(rate)
    assert np.isfinite(figures["valid_loss"]) and np.isfinite(figures["test_loss"])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    assert best_of(np.array([np.nan, 3.0, np.inf, 2.0])) == 3


def test_a_mean_over_those_that_are_finite_is_that_over_all_if_all_are():
    losses = jnp.array([1.0, 2.5, -0.5])
    value, slope = jax.value_and_grad(mean_of_finite)(losses)
    assert value == jnp.mean(losses) and (slope == jnp.float32(1 / 3)).all()
    value, slope = jax.value_and_grad(mean_of_finite)(losses.at[1].set(jnp.nan))
    assert value == 0.25
    np.testing.assert_allclose(slope, [1 / 3, 0, 1 / 3], rtol=1e-6)
    assert np.isnan(mean_of_finite(jnp.full(2, jnp.nan)))


@pytest.mark.parametrize("better", [0, 1])
def test_the_candidate_that_validates_best_is_measured(music, better):
    factors = draw_factors(2, 1.0, 0)
    model = music.problem.model(music.init(0).params)
    # The worse candidate expects all keys down, which only three of 88 ever are.
    model.output.bias[...] = jnp.full((2, KEYS), 9.0).at[better].set(-3.0)
    params = nnx.split(model)[1]
    measured = music.measure(params, "valid")
    assert measured["loss"] < 30 and music.measure(params, "test")["loss"] < 30
    assert music.best(params) == better
    assert measured["learning_rate"] == pytest.approx(1e-2 * factors[better])


# A run.


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    train.main()


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(tmp_path, monkeypatch, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    # The cell that compiles fastest.
    tiny = ("tiny", "--cell", "elman", "--steps", 40, "--run-dir")
    run(monkeypatch, *tiny, whole)
    result = json.loads((whole / "result.json").read_text())
    assert result["unit"] == "nats/frame"
    assert result["valid_loss"] < result["valid_baseline"] - 1
    assert result["test_loss"] < result["test_baseline"] - 1
    told = capsys.readouterr().out.splitlines()[-1]
    assert (
        f"test loss {result['test_loss']:.4f}  baseline {result['test_baseline']:.4f}"
        == told
    )

    calls = iter(range(1, 1000))

    def batch(pieces, rows):
        if next(calls) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return as_batch(pieces, rows)

    with monkeypatch.context() as patch:
        patch.setattr("experiments.music.problem.as_batch", batch)
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, *tiny, halves)
    assert ended.value.code == 128 + signal.SIGTERM
    run(monkeypatch, *tiny, halves, "--resume", "must")
    again = json.loads((halves / "result.json").read_text())
    for name in ("state_sha256", "valid_loss", "test_loss"):
        assert again[name] == result[name]
    assert read_metrics(halves / "metrics.jsonl") == read_metrics(whole / "metrics.jsonl")

    picture = tmp_path / "music.png"
    monkeypatch.setattr(sys, "argv", ["plot", str(whole), "--picture", str(picture)])
    with pytest.raises(SystemExit) as ended:
        plot.main()
    assert ended.value.code == 2
    assert "frames must be" in capsys.readouterr().err
    sys.argv += ["--frames", "6"]
    plot.main()
    assert picture.read_bytes().startswith(b"\x89PNG")

    config = json.loads((whole / "config.json").read_text())
    write_json(whole / "config.json", config | {"data_sha256": "of other music"})
    with pytest.raises(SystemExit) as ended:
        plot.main()
    assert ended.value.code == 2
    assert f"the run in {whole} has of other music" in capsys.readouterr().err


def test_the_reach_of_a_model_is_that_of_the_gradient_through_its_layers(music):
    model = music.problem.model(candidate(music.init(0).params, 0))
    heard = plot.endings(made_up()["test"], 5)
    (layer,) = model.layers
    cell, weights = layer.recurrence, layer.arrays()

    def nats(carry):
        _, ys = unroll(cell, weights, heard[3:-1], carry)
        logits = model.output(ys[-1])
        return optax.sigmoid_binary_cross_entropy(logits, heard[-1]).sum()

    before, _ = unroll(cell, weights, heard[:3])
    by_leaf = jax.tree.leaves(jax.grad(nats)(before))
    want = np.sqrt(sum(np.square(leaf).sum(-1) for leaf in by_leaf))
    np.testing.assert_allclose(plot.reach(model, heard)[1], want, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data", "nowhere.mat"], "no music at nowhere.mat"),
        (["--candidates", "0"], "candidates must be 1 or more"),
        (["--sequence-length", "0"], "lengths of 1 or more"),
        (["--hidden-size", "0"], "hidden_size"),
        (["--weight-noise", "-1"], "weight_noise must be 0 or more, got -1"),
        (["--layers", "0"], "at least one layer"),
    ],
)
def test_what_cannot_run_is_refused_in_a_sentence(
    tmp_path, monkeypatch, capsys, options, message
):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "tiny", "--run-dir", tmp_path / "run", *options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_presets_are_those_of_the_papers():
    sizes = {"chung-tanh": 100, "chung-gru": 46, "chung-lstm": 36}
    for name, size in sizes.items():
        config = PRESETS[name][1]
        assert config.hidden_size == size and config.candidates == 10
        # exp(U(-12, -6))
        center = np.log(config.learning_rate)
        assert center - config.rate_spread == pytest.approx(-12, abs=1e-3)
        assert center + config.rate_spread == pytest.approx(-6, abs=1e-3)
