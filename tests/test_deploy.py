"""An exported model says the same in all of its formats, without what trained it."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.language_model import export
from experiments.language_model.run import load
from jaxrnn import PreNorm
from jaxrnn.models import LanguageModel, load_language_model
from jaxrnn.models.cells import make_layers
from jaxrnn.models.saved import named

pytest.importorskip("flatbuffers")
runtime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parent.parent
V, T, B = 7, 5, 2


def some_tokens(dtype="int32"):
    return np.random.default_rng(0).integers(0, V, (T, B)).astype(dtype)


def test_a_model_that_its_config_does_not_tell_whole_is_refused():
    told = dict(vocabulary_size=V, embedding_size=3, cell="lstm", layers=1, hidden_size=3)
    told |= {"tied": False, "precision": "float32"}
    layers = make_layers("lstm", 1, 3, 3, around=PreNorm)
    model = LanguageModel(V, 3, layers, norm=True, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="only a model of plain layers"):
        export.as_safetensors(model, told)
    plain = LanguageModel(V, 3, make_layers("lstm", 1, 3, 3), rngs=nnx.Rngs(0))
    assert export.as_safetensors(plain, told)


# A run of the command line.


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Holds a trained run and what was exported of it."""
    home = tmp_path_factory.mktemp("deploy")
    (home / "text").write_text("to be or not to be, that is the question\n" * 100)
    options = ["tiny", "--steps", "3", "--layers", "2", "--sample-length", "0"]
    options += ["--tied", "--data", home / "text", "--run-dir", home / "run"]
    command("train", *options)
    command("export", home / "run", "--out", home / "out")
    return home


def command(name, *arguments):
    words = [sys.executable, "-m", f"experiments.language_model.{name}", *arguments]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)


BEGIN = """
import sys
for name in {without}:
    sys.modules[name] = None  # it cannot be imported
import numpy as np
from safetensors.numpy import load_file
folder, tokens = sys.argv[1], np.load(sys.argv[2])
carry = load_file(folder + "/carry.safetensors")
carry = {{k: np.broadcast_to(a, (tokens.shape[1], *a.shape)) for k, a in carry.items()}}
"""
PROGRAMS = """
from jax import export
def read(name):
    with open(f"{folder}/{name}.jax", "rb") as file:
        return export.deserialize(bytearray(file.read()))
tokens = tokens.astype("int32")
forward, step = read("forward"), read("step")
assert set(forward.platforms) == set(step.platforms) == {"cpu", "cuda", "tpu"}
logits, after = forward.call(tokens, carry)
for row, want in zip(tokens, logits):
    got, carry = step.call(row, carry)
    np.testing.assert_allclose(got, want, atol=1e-5)
for name in after:
    np.testing.assert_allclose(carry[name], after[name], atol=1e-5)
np.save(sys.argv[3], logits)
"""
ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(
    folder + "/model.onnx", providers=["CPUExecutionProvider"]
)
names = [value.name for value in session.get_outputs()]
every = []
for row in tokens.astype("int64"):
    got = dict(zip(names, session.run(names, {"tokens": row[None], **carry})))
    every.append(got["logits"])
    carry = {name: got[f"{name}.after"] for name in carry}
np.save(sys.argv[3], np.concatenate(every))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, without",
    [
        (PROGRAMS, ["jaxrnn", "experiments", "flax", "optax"]),
        (ONNX, ["jaxrnn", "experiments", "flax", "jax"]),
    ],
    ids=["programs of JAX", "ONNX"],
)
def test_a_format_needs_nothing_of_ours(home, tmp_path, script, without):
    np.save(tmp_path / "tokens.npy", some_tokens())
    program = BEGIN.format(without=without) + script
    files = home / "out", tmp_path / "tokens.npy", tmp_path / "logits.npy"
    words = [sys.executable, "-I", "-c", program, *files]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    trained, _, _ = load(home / "run")
    _, want = trained(some_tokens())
    probabilities = jax.nn.softmax(np.load(tmp_path / "logits.npy"))
    np.testing.assert_allclose(probabilities, jax.nn.softmax(want), atol=1e-5)


def test_plain_files_make_the_model_again_to_the_bit(home):
    trained, tokenizer, config = load(home / "run")
    model = load_language_model(home / "out")
    np.testing.assert_array_equal(model(some_tokens())[1], trained(some_tokens())[1])
    told = json.loads((home / "out" / "config.json").read_text())
    assert told["tokens"] == "character" and told["carry"]["1.c"] == [config.hidden_size]
    stored = (home / "out" / "tokenizer.json").read_text(encoding="utf-8")
    assert stored == tokenizer.as_json()


def test_files_that_do_not_fit_are_refused_by_name(home, tmp_path):
    with pytest.raises(ValueError, match="holds no exported model: .*config.json"):
        load_language_model(tmp_path)
    told = json.loads((home / "out" / "config.json").read_text())
    weights = (home / "out" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps(told | {"hidden_size": 9}))
    with pytest.raises(ValueError, match="model.safetensors does not fit config.json: "):
        load_language_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(ValueError, match="holds no exported model: "):
        load_language_model(tmp_path)


def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(call, home, tmp_path):
    before = {path: path.read_bytes() for path in (home / "out").iterdir()}
    code, _, error = call(export.main, home / "run", "--out", home / "out")
    assert code == 2 and "is there already: --out takes a new folder" in error
    assert {path: path.read_bytes() for path in (home / "out").iterdir()} == before
    code, _, error = call(export.main, tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "no run at" in error and not (tmp_path / "out").exists()


# Models of all kinds.


def make_model(cell, layers=1, **options):
    recurrences = make_layers(cell, layers, 4, 5)
    return LanguageModel(V, 4, recurrences, rngs=nnx.Rngs(0), **options)


@pytest.mark.parametrize(
    "cell, options",
    [
        ("lstm", {"layers": 2}),
        ("peepholelstm", {"tied": True}),
        ("gru", {}),
    ],
)
def test_onnx_runs_each_cell_that_it_has_a_node_for(cell, options):
    model = make_model(cell, **options)
    session = runtime.InferenceSession(
        export.as_onnx(model), providers=["CPUExecutionProvider"]
    )
    carry = jax.tree.map(lambda a: jnp.full_like(a, 0.3), model.initial_carry((B,)))
    names = [value.name for value in session.get_outputs()]
    given = {name: np.asarray(leaf) for name, leaf in named(carry).items()}
    got = session.run(names, {"tokens": some_tokens("int64"), **given})
    after, logits = model(some_tokens(), carry)
    want = {f"{name}.after": leaf for name, leaf in named(after).items()}
    for name, array in zip(names, got, strict=True):
        np.testing.assert_allclose(array, (want | {"logits": logits})[name], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["minlstm", "mlstm"])
def test_programs_of_jax_run_any_cell(cell):
    model = make_model(cell, layers=2)
    programs = export.as_programs(model)
    forward = jax.export.deserialize(bytearray(programs["forward.jax"]))
    logits, after = forward.call(some_tokens(), named(model.initial_carry((B,))))
    want_after, want = model(some_tokens())
    np.testing.assert_allclose(logits, want, atol=1e-5)
    assert after.keys() == named(want_after).keys()
    with pytest.raises(ValueError, match="ONNX cannot hold .*: what converts is LSTM, "):
        export.as_onnx(model)
