"""Reads that fail: what is proven damage and what is not, and who may move it."""

import errno
import fcntl
import json
import os
import resource
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrnn.training.leaves import Leaf
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.file_list import SUMS, list_files
from jaxrnn.training.store.lock import RunLock
from jaxrnn.training.store.reads import Unreadable
from jaxrnn.training.store.saved_array import arrays_of
from jaxrnn.training.store.saved_step import CheckpointError, read_step
from jaxrnn.training.verify import verify

STATE = {"w": np.arange(1000.0), "b": np.arange(3, dtype=np.int32)}
PASSING = ("ESTALE", "EIO", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EAGAIN", "EINTR")


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("template")
    with CheckpointStore(run_dir, keep_latest=3) as store:
        for step, loss in ((1, 2.0), (2, 1.0), (3, 3.0)):
            store.save(step, STATE, loss=loss)
    return run_dir


@pytest.fixture
def run_dir(three_steps, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxrnn.training.store.reads.NAPS", (0.0,) * 4)
    shutil.copytree(three_steps, tmp_path / "run")
    return tmp_path / "run"


def steps(run_dir):
    return sorted(os.listdir(run_dir / "checkpoints"))


def restored(run_dir, which="restore"):
    """The step that a store restores which may move what is damaged."""
    with CheckpointStore(run_dir) as store:
        found = getattr(store, which)(STATE)
    assert found is not None
    np.testing.assert_array_equal(found.state["w"], STATE["w"])
    return found.step


def spoil(run_dir, step):
    file = run_dir / "checkpoints" / str(step) / "meta" / "metadata"
    file.write_bytes(file.read_bytes()[:-9])


class Failing:
    """Has a method of Path fail for a path in which `part` occurs, the first `times`."""

    def __init__(self, monkeypatch, method, part, number, times):
        self.times = times
        works = getattr(Path, method)

        def fail(path, *arguments, **options):
            if part in str(path) and self.times > 0:
                self.times -= 1
                raise OSError(number, os.strerror(number), str(path))
            return works(path, *arguments, **options)

        monkeypatch.setattr(Path, method, fail)


# Failures that pass


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize(
    "method, part",
    [
        ("open", "/3/meta/metadata"),
        ("open", f"/3/{SUMS}"),
        ("open", "/3/state/manifest"),
        ("iterdir", "/checkpoints"),
        ("iterdir", "/3/state"),
        ("lstat", "/3/state/d"),
    ],
)
def test_a_read_that_fails_in_passing_is_tried_again_and_then_named(
    run_dir, monkeypatch, name, method, part
):
    number = getattr(errno, name)
    failing = Failing(monkeypatch, method, part, number, times=2)
    assert restored(run_dir) == 3
    assert failing.times == 0
    failing.times = 10**9
    with pytest.raises(CheckpointError, match="cannot be read, which need not be damage"):
        restored(run_dir)
    with pytest.raises(CheckpointError, match=os.strerror(number)):
        CheckpointStore(run_dir).restore(STATE)
    failing.times = 0
    assert steps(run_dir) == ["1", "2", "3"] and restored(run_dir) == 3


@contextmanager
def descriptors_left(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 20, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_too_few_file_descriptors_condemn_nothing(run_dir):
    folder = run_dir / "checkpoints" / "3"
    with (
        pytest.raises(CheckpointError, match="need not be damage.*Too many open files"),
        descriptors_left(0),
    ):
        read_step(folder)
    # TensorStore's reads, where no list says that the files are those saved.
    about = read_step(folder).meta["leaves"]
    with (
        pytest.raises(Unreadable, match="Too many open files"),
        descriptors_left(0),
        arrays_of(folder, about, listed=False),
    ):
        pass
    with descriptors_left(3):
        read_step(folder)
    assert restored(run_dir) == 3


def test_the_best_is_not_taken_for_another_while_its_json_cannot_be_read(
    run_dir, monkeypatch
):
    failing = Failing(monkeypatch, "open", "/2/meta/", errno.ESTALE, times=2)
    assert restored(run_dir, "restore_best") == 2
    failing.times = 10**9
    with pytest.raises(CheckpointError, match="cannot be read"):
        restored(run_dir, "restore_best")
    # Nor deleted by a save that does not know it as the best.
    with CheckpointStore(run_dir, keep_latest=1) as store:
        store.save(4, STATE)
    assert "2" in steps(run_dir)
    failing.times = 0
    with CheckpointStore(run_dir, keep_latest=1) as store:
        store.save(5, STATE)
    assert steps(run_dir) == ["2", "5"]


def test_a_step_that_is_deleted_while_it_is_read_is_none(run_dir, monkeypatch):
    read = read_step

    def read_late(folder, take):
        if folder.name == "3":
            shutil.rmtree(folder)
        return read(folder, take)

    monkeypatch.setattr("jaxrnn.training.store.good_steps.read_step", read_late)
    assert restored(run_dir) == 2
    assert steps(run_dir) == ["1", "2"]


def test_what_is_put_in_order_meanwhile_was_not_damaged(run_dir, monkeypatch):
    file = run_dir / "checkpoints" / "3" / "meta" / "metadata"
    content = file.read_bytes()
    file.write_bytes(b"")

    def nap(seconds):
        if seconds:
            file.write_bytes(content)

    monkeypatch.setattr("jaxrnn.training.store.reads.NAPS", (0.1, 0.1))
    monkeypatch.setattr("jaxrnn.training.store.reads.time.sleep", nap)
    assert restored(run_dir) == 3


def test_files_that_are_those_saved_are_not_damaged_though_nobody_can_read_them(run_dir):
    folder = run_dir / "checkpoints" / "3"
    (folder / "state" / "manifest.ocdbt").unlink()
    list_files(folder)
    with pytest.raises(CheckpointError, match="3 cannot be read, which need not be damage"):
        restored(run_dir)
    assert steps(run_dir) == ["1", "2", "3"]


# Who moves what is damaged


def test_a_store_that_only_reads_leaves_what_is_damaged(run_dir, capsys):
    spoil(run_dir, 3)
    store = CheckpointStore(run_dir)
    for restore in (store.restore, store.restore_best):
        with pytest.warns(UserWarning, match=r"3 is damaged and is left where it is: "):
            found = restore(STATE)
        assert found is not None and found.step == 2
    assert not verify(run_dir)
    assert capsys.readouterr().out.count("DAMAGED") == 1
    assert steps(run_dir) == ["1", "2", "3"]


def test_only_the_process_that_holds_the_lock_moves_what_is_damaged(run_dir):
    spoil(run_dir, 3)
    with (run_dir / "lock.json").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process
        with pytest.warns(UserWarning, match="3 is damaged and is left .*being"):
            assert restored(run_dir) == 2
    assert steps(run_dir) == ["1", "2", "3"]
    with RunLock(run_dir), pytest.warns(UserWarning, match="3 is damaged and was moved to"):
        assert restored(run_dir) == 2
    spoil(run_dir, 2)
    # Nobody else trains: the lock is there to be taken.
    with pytest.warns(UserWarning, match="2 is damaged and was moved to"):
        assert restored(run_dir) == 1
    assert steps(run_dir) == ["1", "quarantine"]
    with RunLock(run_dir):
        pass


def test_a_damaged_step_that_was_left_does_not_crowd_out_good_ones(run_dir):
    spoil(run_dir, 3)
    with CheckpointStore(run_dir, keep_latest=2) as store:
        for step in (4, 5):
            store.save(step, STATE, loss=2.0)
    assert steps(run_dir) == ["2", "3", "4", "5"]


# Parts of what was saved


def renewed(leaves):
    """Has what was `params` as `weights`, and one leaf more."""
    moved = {path.replace("params", "weights"): leaf for path, leaf in leaves.items()}
    return moved | {"new": Leaf("int32", np.array(7, np.int32))}


def test_a_part_is_read_whatever_the_rest_is(tmp_path):
    rest = {"key": jax.random.key(0, impl="rbg"), "count": np.int64(2**40), "opt": ()}
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"params": STATE} | rest, loss=1.0)
        store.save(2, {"params": STATE} | rest)
    store = CheckpointStore(tmp_path)
    for restore, step in (
        (store.restore, 2),
        (store.restore_best, 1),
        (store.restore_lasting, 2),
    ):
        found = restore({"params": STATE}, part=True)
        assert found is not None and found.step == step
        np.testing.assert_array_equal(found.state["params"]["w"], STATE["w"])
        with pytest.raises(CheckpointError, match="it holds count, key, which is not"):
            restore({"params": STATE})
        with pytest.raises(CheckpointError, match="it lacks params/c"):
            restore({"params": {"c": np.zeros(1)}}, part=True)
        later = restore({"weights": STATE, "new": np.int32(0)}, upgrade=renewed, part=True)
        assert later is not None and later.state["new"] == 7
        np.testing.assert_array_equal(later.state["weights"]["w"], STATE["w"])


def test_a_part_of_a_damaged_step_is_not_taken(run_dir):
    folder = run_dir / "checkpoints" / "3"
    about = json.loads((folder / "meta" / "metadata").read_bytes())
    assert set(about["leaves"]) == {"w", "b"}
    values = max((folder / "state/ocdbt.process_0/d").iterdir(), key=os.path.getsize)
    values.write_bytes(values.read_bytes()[:-1] + b"\0")
    with pytest.warns(UserWarning, match="3 is damaged"):
        found = CheckpointStore(run_dir).restore({"b": STATE["b"]}, part=True)
    assert found is not None and found.step == 2
