import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrnn.training.store import lock
from jaxrnn.training.store.lock import RunLock, RunLocked

HOLD = """
import sys, time
from jaxrnn.training.store.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock on `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_refused_in_one_sentence(tmp_path, holder):
    with pytest.raises(RunLocked) as refusal, RunLock(tmp_path):
        pass
    message = str(refusal.value)
    assert isinstance(refusal.value, ValueError)
    assert f"process {holder.pid} on {socket.gethostname()}" in message
    assert str(tmp_path) in message and "\n" not in message


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == holder.pid
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_a_lock_can_be_taken_again_after_its_end(tmp_path):
    for _ in range(2):
        with RunLock(tmp_path / "new" / "run"):
            pass
    with pytest.raises(RuntimeError), RunLock(tmp_path / "new" / "run"):
        raise RuntimeError
    with RunLock(tmp_path / "new" / "run"):
        pass


def test_the_same_process_cannot_hold_a_run_twice(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(RunLocked, match=f"process {os.getpid()}"), RunLock(tmp_path):
            pass
        with pytest.raises(RunLocked), RunLock(tmp_path):
            pass


def test_a_holder_that_has_not_yet_told_who_it_is_is_refused_too(tmp_path):
    with RunLock(tmp_path):
        (tmp_path / "lock.json").write_text("{")
        with pytest.raises(RunLocked, match="another process"), RunLock(tmp_path):
            pass


def no_locks(*_):
    raise OSError(95, "Operation not supported")


@pytest.fixture(params=["no locks in the file system", "no fcntl"])
def without_locks(request, monkeypatch):
    if request.param == "no fcntl":
        monkeypatch.setattr("jaxrnn.training.store.lock.fcntl", None)
    else:
        monkeypatch.setattr("fcntl.flock", no_locks)


def test_without_locks_a_live_pid_decides(tmp_path, holder, without_locks):
    with (
        pytest.raises(RunLocked, match=f"process {holder.pid}.*remove "),
        RunLock(tmp_path),
    ):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with RunLock(tmp_path), pytest.raises(RunLocked), RunLock(tmp_path):
            pass
    # A process of the same number, as in a container that was started anew.
    left = {"pid": os.getpid(), "host": socket.gethostname(), "started": "yesterday"}
    (tmp_path / "lock.json").write_text(json.dumps(left))
    with RunLock(tmp_path):
        pass


def test_without_locks_the_last_of_two_at_once_holds_it(
    tmp_path, monkeypatch, without_locks
):
    other = {"pid": 1, "host": "elsewhere", "started": "at the same moment"}
    monkeypatch.setattr(
        "time.sleep", lambda _: (tmp_path / "lock.json").write_text(json.dumps(other))
    )
    with pytest.raises(RunLocked, match="process 1 on elsewhere"), RunLock(tmp_path):
        pass


def test_where_nobody_can_ask_who_lives_the_name_in_the_file_decides(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxrnn.training.store.lock.fcntl", None)
    monkeypatch.setattr("jaxrnn.training.store.lock.ASKS_BY_KILL", False)
    monkeypatch.setattr("os.kill", None)
    with RunLock(tmp_path):
        pass
    left = {"pid": 2**22 + 1, "host": socket.gethostname(), "started": "yesterday"}
    (tmp_path / "lock.json").write_text(json.dumps(left))
    with pytest.raises(RunLocked, match="if that process has ended, remove .*lock.json"):
        RunLock(tmp_path).__enter__()
    (tmp_path / "lock.json").unlink()
    with RunLock(tmp_path):
        pass


def test_the_lock_can_be_imported_where_there_is_no_fcntl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert lock.__file__ is not None
    spec = importlib.util.spec_from_file_location("lock_elsewhere", lock.__file__)
    assert spec is not None and spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    with elsewhere.RunLock(tmp_path), pytest.raises(elsewhere.RunLocked):
        elsewhere.RunLock(tmp_path).__enter__()
