"""The page about runs: what stands in it, what it leaves alone, and in a browser if there
is one."""

import base64
import json
import re
import shutil
import signal
import sys
from dataclasses import replace
from html.parser import HTMLParser

import arena
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_load import (
    LANGUAGE_MODELS,
    SENTIMENTS,
    TRANSLATIONS,
    begun,
    by,
    make_pairs,
    make_text,
    make_texts,
)

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, PreNorm, Stack, unroll
from jaxrnn.diagnostics import gate_values, gradient_by_lag, memory_horizon, within
from jaxrnn.report import page, write_report
from jaxrnn.report.__main__ import main
from jaxrnn.training import Opened, Run, RunLock, Section, StopRequest
from jaxrnn.training.run import last_page

HOSTILE = """a</script><script>alert(1)</script><b title="x">&amp;'"""


class Page(HTMLParser):
    """What a browser would find in it."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def count(self, tag):
        return sum(tag == name for name, _ in self.elements)

    @property
    def titles(self):
        return [text for tag, text in self.texts if tag == "h2"]

    @property
    def seen(self):
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))

    @property
    def data(self):
        """The JSON of its charts and texts."""
        return [json.loads(x) for tag, x in self.texts if tag == "script" and x[0] in "[{"]

    @property
    def explored(self):
        return next(x for x in self.data if isinstance(x, list))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A language model's run of a few steps."""
    home = tmp_path_factory.mktemp("trained")
    config = replace(
        LANGUAGE_MODELS["tiny"][1],
        data=arena.Arena.create(home).text,
        run_dir=home / "run",
        steps=4,
        eval_every=2,
        sample_length=12,
    )
    with jax.numpy_dtype_promotion("standard"), Run(by(make_text)(config), config) as run:
        run.train(StopRequest())
        run.finish()
    return home / "run"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes and reads a page, without the library, which takes four seconds."""
    monkeypatch.setattr(page, "library", str)

    def write(*runs, texts=()):
        write_report(runs, tmp_path / "page.html", texts)
        return Page(tmp_path / "page.html")

    return write


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


# What stands in it.


def test_the_page_of_a_language_model(trained, written):
    shown = written(trained)
    assert shown.titles == [
        "Results",
        "Learning",
        "Samples",
        "run: what each unit does",
        "run: how it remembers",
        "run: what surprised it",
        "Speed and memory",
        "Checkpoints",
        "Configuration",
        "Versions",
    ]
    result = json.loads((trained / "result.json").read_text())
    assert result["state_sha256"] in shown.seen and "ended after step 4 of 4" in shown.seen
    assert jax.__version__ in shown.seen and "good" in shown.seen
    assert shown.count("figure") == sum("$schema" in x for x in shown.data) == 4
    # A table stands for every chart, and every part has a link to it.
    assert shown.count("table") >= shown.count("figure")
    places = {given["id"] for tag, given in shown.elements if tag == "section"}
    links = {given["href"] for tag, given in shown.elements if tag == "a"}
    assert {f"#{place}" for place in places} < links


def test_learning_curves_hold_what_was_logged(trained, written):
    (chart,) = (x for x in written(trained).data if isinstance(x, dict) and "layer" in x)
    rows = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    points = (
        [p for x in chart["datasets"].values() for p in x] if "datasets" in chart else []
    )
    points = points or chart["data"]["values"]
    told = {(p["figure"], p["part"], p["step"]): p["value"] for p in points}
    for row in rows:
        if "loss" in row:
            assert told["loss", "training", row["step"]] == row["loss"]
        else:
            assert told["loss", "evaluation", row["step"]] == row["valid_loss"]


def test_a_text_is_coloured_by_what_the_units_do(trained, written):
    shown = written(trained, texts=["the cat sat", "a small dog"])
    first, second = shown.explored
    assert "".join(second["tokens"]) == "a small dog"
    opened = jaxrnn.load(trained)
    model = opened.model
    tokens = jnp.asarray(opened.tokenizer.encode(b"the cat sat"), jnp.int32)
    layer = model.layers[0]
    _, ys = layer(model.embedding(tokens))
    signals = {signal["name"]: signal for signal in first["signals"]}
    for name, wanted in {"layer 1: output": ys, "surprise, in bits": None}.items():
        signal = signals[name]
        levels = np.frombuffer(base64.b64decode(signal["bytes"]), np.uint8)
        levels = levels.reshape(len(signal["units"]), len(tokens))
        width = signal["high"] - signal["low"]
        got = signal["low"] + levels / 254 * width
        if wanted is None:
            assert levels[0, 0] == 255  # nothing foretells the first token
            bits = opened.nats("the cat sat") / np.log(2)
            np.testing.assert_allclose(got[0, 1:], bits, atol=width / 254)
            continue
        order = [int(label.partition(",")[0]) for label in signal["units"]]
        assert sorted(order) == list(range(16))
        np.testing.assert_allclose(got, np.asarray(ys).T[order], atol=width / 254)
        read = map(opened.tokenizer.encode, (b"the cat sat", b"a small dog"))
        both = [model.embedding(jnp.asarray(tokens, jnp.int32)) for tokens in read]
        gates = [gate_values(layer.recurrence, layer.arrays(), xs)["forget"] for xs in both]
        horizons = np.asarray(memory_horizon(jnp.concatenate(gates)))
        assert np.all(np.diff(horizons[order]) <= 0)


def test_a_classifier_shows_its_answers(tmp_path, written):
    run = begun(tmp_path / "run", SENTIMENTS, by(make_texts))
    shown = written(run, texts=["the film was great"])
    assert "run: what it answers" in shown.titles
    assert {"positive", "negative"} <= {text for tag, text in shown.texts if tag == "th"}
    names = [signal["name"] for signal in shown.explored[0]["signals"]]
    assert "layer 1: output" in names and "layer 1, backwards: output" in names


def test_a_translator_shows_where_it_looks(tmp_path, written):
    run = begun(tmp_path / "run", TRANSLATIONS, by(make_pairs))
    shown = written(run, texts=["a b c"])
    assert "run: where it looks" in shown.titles
    (chart,) = (x for x in shown.data if "mark" in x and x["mark"]["type"] == "rect")
    assert len({one["column"] for one in chart["data"]["values"]}) == 4  # and the end


@pytest.mark.parametrize(
    "presets, make", [(SENTIMENTS, make_texts), (TRANSLATIONS, make_pairs)]
)
def test_without_a_text_some_validation_data_serve(tmp_path, monkeypatch, presets, make):
    opened = jaxrnn.load(begun(tmp_path, presets, by(make)))
    explored = f"{type(opened).__module__}.explored"
    monkeypatch.setattr(explored, lambda trained, texts, *rest: texts)
    (asked, own) = opened.sections(["a b"]), opened.sections([])
    assert list(asked) == ["a b"] and 2 <= len(own) <= 4 and all(own)


class Mine(Opened):
    """A problem of one's own."""

    @classmethod
    def load(cls, path, step="best"):
        return cls()

    def __call__(self):
        return 1

    def sections(self, texts):
        if texts == ["broken"]:
            raise RuntimeError("no such luck")
        return [Section("my picture", f"<p>{len(texts)} texts</p>")]


def test_a_problem_of_ones_own_shows_its_own(trained, tmp_path, written, capsys):
    run = tmp_path / "mine"
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"opened_by": f"{__name__}:Mine"}))
    shown = written(run, texts=["one"])
    assert "mine: my picture" in shown.titles and "1 texts" in shown.seen
    # What goes wrong in it takes nothing from the rest.
    shown = written(run, texts=["broken"])
    assert "It is left out: RuntimeError: no such luck" in shown.seen
    assert "no such luck" in capsys.readouterr().err and "Learning" in shown.titles


def test_runs_are_compared(trained, tmp_path, written):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"weight_decay": 0.125}))
    shown = written(trained, other)
    after = shown.source.partition(">Configuration</h2>")[2]
    (first, *_) = re.findall(r'<th scope="row">(\w+)</th>', after)
    assert first == "weight_decay"  # where they differ
    assert "<title>run and other: report</title>" in shown.source
    assert "other: what each unit does" in shown.titles


# What it is given.


def test_nothing_that_users_write_becomes_a_part_of_the_page(trained, tmp_path, written):
    run = tmp_path / HOSTILE.replace("/", "∕")
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {HOSTILE: HOSTILE}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "valid_loss": 1.0, "sample": HOSTILE}) + "\n")
        file.write(json.dumps({"step": 4, f"valid_{HOSTILE}": 1.0}) + "\n")
    plain, shown = written(trained), written(run, texts=["the cat", HOSTILE])
    assert shown.count("script") == plain.count("script")
    assert shown.count("b") == 0 and HOSTILE in shown.seen
    assert not any(set(given) & {"onload", "onclick"} for _, given in shown.elements)


def test_a_folder_is_read_and_nothing_else(trained, written):
    before = snapshot(trained)
    with RunLock(trained):  # another process trains there
        held = snapshot(trained)
        written(trained)
        assert snapshot(trained) == held
    written(trained)
    assert snapshot(trained).keys() == before.keys()


def test_a_run_that_still_trains(trained, tmp_path, written):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "result.json").unlink()
    for name in ("metrics.jsonl", "history.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"step": 5, "lo')  # being written
    shown = written(run)
    assert "at step 4 of 4: it trains still, or was stopped" in shown.seen


def test_a_run_before_its_first_checkpoint(trained, tmp_path, written):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained / "config.json", run)
    shown = written(run)
    assert "Nothing is logged yet." in shown.seen and "No step is saved yet." in shown.seen


def test_damage_is_told(trained, tmp_path, written):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "checkpoints/2/meta/metadata").write_text("{}")
    assert "DAMAGED" in written(run).seen


def test_numbers_that_are_not_finite_are_left_out(trained, tmp_path, written):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": null, "skipped": "not finite"}\n')
        file.write('{"step": 6, "loss": NaN, "gradient_norm": Infinity}\n')
    assert written(run).count("figure") == 4


# The command.


def test_refusals_are_one_sentence(call, trained, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ([empty], "has no config.json"),
        ([tmp_path / "absent"], "no run at"),
        ([trained, "--out", tmp_path / "no" / "page.html"], "is no folder to write"),
        ([trained, "--text", ""], "a text needs at least one character"),
    ]
    for words, reason in cases:
        code, out, error = call(main, *words)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert reason in error and error.startswith("error: ")
    monkeypatch.setattr("jaxrnn.extras.find_spec", lambda name: None)
    code, _, error = call(main, trained)
    assert code == 2 and "pip install 'jaxrnn[report]'" in error


def test_a_run_ends_with_its_page(trained, capsys, tmp_path):
    run = tmp_path / "run 1"
    shutil.copytree(trained, run)
    with StopRequest() as stop:
        last_page.write_last_page(run, stop)
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert "<h2" in (run / "report.html").read_text()


def test_what_goes_wrong_with_the_page_is_not_the_runs(capsys, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho first >&2; echo 'error: no luck' >&2; exit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with StopRequest() as stop:
        last_page.write_last_page(tmp_path, stop)
    assert capsys.readouterr().err == "no report: error: no luck\n"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    with StopRequest() as stop:
        stop.signal = signal.SIGTERM
        last_page.write_last_page(tmp_path, stop)
    assert capsys.readouterr().err == "no report: it was ended\n"
    monkeypatch.setattr(last_page, "find_spec", lambda name: None)
    with StopRequest() as stop:
        last_page.write_last_page(tmp_path, stop)
    assert capsys.readouterr() == ("", "")


# Samples.


def test_evaluations_come_with_a_sample(trained):
    rows = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    samples = {row["step"]: row["sample"] for row in rows if "valid_loss" in row}
    assert samples.keys() == {2, 4}
    assert all(sample[0] == "\n" and len(sample) > 12 for sample in samples.values())


# What is within a recurrence.


@pytest.mark.parametrize(
    "recurrence, read",
    [
        (Elman(3, 4), [False]),
        (Stack((Bidirectional(GRU(3, 2), GRU(3, 2)), PreNorm(GRU(4, 4)))), [0, 1, 0]),
    ],
    ids=["a cell", "a stack"],
)
def test_the_cells_within_a_recurrence(recurrence, read):
    params = recurrence.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3))
    cells, ys = within(recurrence, params, xs, lags=4)
    assert [one.backwards for one in cells] == read
    for one in cells:
        assert one.by_lag.shape == (4,)
        assert all(gate.shape[0] == 6 for gate in one.gates.values())
        assert bool(one.gates) == (not isinstance(one.cell, Elman))
    np.testing.assert_allclose(ys, unroll(recurrence, params, xs)[1], rtol=1e-5, atol=1e-6)


def test_what_a_cell_within_does_is_what_it_does_alone():
    forward, backward = LSTM(3, 2), LSTM(3, 2)
    both = Bidirectional(forward, backward)
    params = both.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3))
    (ahead, back), _ = within(both, params, xs, lags=4)
    gates = gate_values(forward, params[0], xs)
    np.testing.assert_allclose(ahead.gates["forget"], gates["forget"], rtol=1e-5)
    gates = gate_values(backward, params[1], xs[::-1])
    np.testing.assert_allclose(back.gates["forget"], gates["forget"][::-1], rtol=1e-5)
    by_lag = gradient_by_lag(forward, params[0], xs[-4:])
    np.testing.assert_allclose(ahead.by_lag, by_lag, rtol=1e-5)


# In a browser.


def test_every_control_works_in_a_browser(trained, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser here")
    written = tmp_path / "page.html"
    write_report([trained], written, ["the cat sat", "a dog ran"])
    assert written.stat().st_size < 5e6
    said = []
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = opened.new_page()
        shown.on(
            "console", lambda line: said.append(line.text) if line.type == "error" else 0
        )
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: said.append(request.url))
        address = written.as_uri()
        shown.goto(address)
        shown.wait_for_selector("figure:last-of-type svg")
        for choice in shown.query_selector_all("select:enabled"):
            for index in range(choice.evaluate("choice => choice.options.length")):
                if choice.is_enabled():  # what is chosen above it may leave no choice
                    choice.select_option(index=index)
        for control in shown.query_selector_all("input[type=checkbox], button, summary"):
            if control.is_visible() and control.is_enabled():
                control.click()
        shown.focus(".coloured")
        before = shown.inner_text(".readout")
        shown.keyboard.press("ArrowRight")
        assert shown.inner_text(".readout") != before
        shown.emulate_media(color_scheme="dark")
        shown.wait_for_timeout(500)
        assert shown.locator("figure.chart svg.marks").count() == 4
        unnamed = "e => !e.labels?.length && !e.ariaLabel && !e.innerText && !e.title"
        for control in shown.query_selector_all("input, select, button"):
            assert not control.evaluate(unnamed)
        opened.close()
    assert said == [address]
