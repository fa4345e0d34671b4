"""Folders of any name: a path is made whole, and is a name to every library beneath."""

import os
from contextlib import nullcontext

import numpy as np
import pytest

from jaxrnn.training.paths import plainly_named, whole_path
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.lock import RunLock
from jaxrnn.training.store.orbax_writer import OrbaxWriter
from jaxrnn.training.store.saved_step import CheckpointError, read_step
from jaxrnn.training.verify import verify

STATE = {"w": np.arange(3.0), "none": np.zeros((0, 2))}


def save(run_dir, *steps):
    with CheckpointStore(run_dir) as store:
        for step in steps:
            store.save(step, {"w": STATE["w"] + step, "none": STATE["none"]})


def is_good(run_dir, step):
    restored = CheckpointStore(run_dir).restore(STATE)
    assert restored is not None and restored.step == step
    np.testing.assert_array_equal(restored.state["w"], STATE["w"] + step)


NAMES = [
    "cell=[lstm,gru]",
    "[",
    "[!a]",
    "a\\b",
    "a*b",
    "a?b",
    "50%",
    "%2e%2e",
    "#1?x=y",
    "with space ",
    "new\nline",
    "{x}|$HOME",
    "Größe",
    "no text \udcff",
    "7.orbax-checkpoint-tmp",
    "here/../there",
    "./here/./",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inner", ["", "run"])
def test_a_run_is_kept_in_a_folder_of_any_name(tmp_path, name, inner, capsys):
    if name.startswith("here"):
        (tmp_path / "here").mkdir()
    run_dir = tmp_path / name / inner
    save(run_dir, 1, 2)
    assert sorted(os.listdir(run_dir / "checkpoints")) == ["1", "2"]
    is_good(run_dir, 2)
    read_step(run_dir / "checkpoints" / "1")
    assert verify(run_dir)
    assert capsys.readouterr().out.count("good") == 2


def test_a_name_is_no_pattern_for_the_run_beside_it(tmp_path):
    save(tmp_path / "aXb", 5)
    save(tmp_path / "a*b", 1)
    save(tmp_path / "a[XY]b", 2)
    for name, step in {"aXb": 5, "a*b": 1, "a[XY]b": 2}.items():
        is_good(tmp_path / name, step)


def test_a_path_stays_what_it_was_when_it_was_given(tmp_path, monkeypatch):
    for name in ("a", "b", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "newest").symlink_to("a")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with (
        CheckpointStore("../b/run") as store,
        CheckpointStore(tmp_path / "newest" / "run") as linked,
        RunLock("../b/run"),
    ):
        monkeypatch.chdir("/")
        (tmp_path / "newest").unlink()
        (tmp_path / "newest").symlink_to("b")
        store.save(1, STATE)
        linked.save(2, STATE)
    assert os.listdir(tmp_path / "b" / "run" / "checkpoints") == ["1"]
    assert os.listdir(tmp_path / "a" / "run" / "checkpoints") == ["2"]
    assert (tmp_path / "b" / "run" / "lock.json").exists()
    assert whole_path("~/run") == RunDirectory("~/run").path == tmp_path / "home" / "run"
    assert whole_path(tmp_path / "newest" / ".." / "x") == tmp_path / "x"


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://x", "file:///tmp/run"])
def test_a_url_is_refused_instead_of_taken_for_a_folder(url):
    for make in (CheckpointStore, RunDirectory, RunLock):
        with pytest.raises(ValueError, match="is a URL"):
            make(url)


def test_the_path_itself_is_used_where_it_is_plain(tmp_path):
    with plainly_named(tmp_path) as plain:
        assert plain == tmp_path
    (tmp_path / "[a]").mkdir()
    with plainly_named(tmp_path / "[a]") as plain:
        assert plain.resolve() == tmp_path / "[a]" and "[" not in str(plain)
    assert not plain.parent.exists() and (tmp_path / "[a]").exists()


# A save is believed once it is read


def test_a_first_save_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxrnn.training.store.orbax_writer.plainly_named", nullcontext)
    with pytest.raises(CheckpointError, match=r"step 1 could not .* cannot be read back"):
        save(tmp_path / "[a]", 1)
    assert os.listdir(tmp_path / "[a]" / "checkpoints") == []


@pytest.mark.parametrize("lost", ["state/manifest.ocdbt", "meta/metadata"])
def test_a_later_save_that_lacks_something_is_refused(tmp_path, monkeypatch, lost):
    write = OrbaxWriter.save

    def write_less(self, step, arrays, meta, shares):
        write(self, step, arrays, meta, shares)
        if meta["record"] == {"lost": True}:
            (tmp_path / "checkpoints" / str(step) / lost).unlink()

    monkeypatch.setattr(OrbaxWriter, "save", write_less)
    save(tmp_path, 1, 2)
    with CheckpointStore(tmp_path, keep_latest=1) as store:
        store.save(3, STATE)
        # A new history, whose beginning is not there: the former one stays.
        store.save(2, STATE, record={"lost": True})
        with pytest.raises(CheckpointError, match=r"step 2 could not .* read back"):
            store.wait()
        assert store.steps() == [3]
        store.save(4, STATE | {"w": STATE["w"] + 4})
    is_good(tmp_path, 4)
