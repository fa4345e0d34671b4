"""A state that lies over several processes: saved and restored, whole in none of them."""

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoint import checkpoints, flip, run_python

from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.store.saved_step import CheckpointError, read_step
from jaxrnn.training.store.shares import described
from jaxrnn.training.verify import verify

SIZE = 256
CUT_BYTES = SIZE * SIZE * (4 + 2 + 4)


def make_state():
    numbers = jnp.arange(SIZE * SIZE, dtype=jnp.float32).reshape(SIZE, SIZE)
    return {
        "both": numbers,
        "columns": numbers.astype(jnp.bfloat16),
        "rows": {"": (numbers.T,)},
        "keys": jax.random.split(jax.random.key(1, impl="rbg"), 4),
        "nothing": jnp.zeros((0, 4)),
        "whole": numbers[0],
        "step": jnp.int32(7),
    }


# Two processes of two devices: they make a state where it lies, save and restore it.
IN_PARTS = """
import errno, json, sys
import jax
address, index, run_dir, former = sys.argv[1:]
jax.distributed.initialize(address, 2, int(index))
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from test_shares import make_state
from jaxrnn.training.processes import ProcessFailed
from jaxrnn.training.store import checkpoint, saved_array
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.store.host_copies import copies_of
from jaxrnn.training.store.saved_step import CheckpointError

mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
specs = {"both": P(("model", "data")), "columns": P(None, ("data", "model")),
         "rows": {"": (P("data"),)}, "keys": P("data"), "nothing": P(None, "data"),
         "whole": P("model"), "step": P()}
lies = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
placed = jax.jit(make_state, out_shardings=lies)()

def bytes_of(arrays):
    return sum(array.nbytes for array in arrays)

def gather(*_):
    raise AssertionError("gathered")

read = []

class Read(saved_array.SavedArray):
    def _read(self, part):
        data = super()._read(part)
        read.append(data)
        return data

saved_array.SavedArray = Read
whole, cut = copies_of(placed)
copied = bytes_of([leaf.data for leaf in whole.values()])
copied += bytes_of([part.data for leaf in cut.values() for part in leaf.parts])

with CheckpointStore(run_dir) as store:
    store.save(1, placed, loss=0.5)
    store.wait()
    read = []
    restored = store.restore(placed)
    needed = bytes_of(read)
    same = jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim),
                        restored.state, placed)
    assert jax.tree.all(same)
    assert digest_tree(restored.state) == digest_tree(placed) == digest_tree(make_state())

    # What another number of processes wrote whole.
    read = []
    moved = CheckpointStore(former).restore(placed)
    assert moved.step == 5 and digest_tree(moved.state) == digest_tree(placed)

    # One that cannot write its share.
    write = checkpoint.write_share
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    if index == "1":
        checkpoint.write_share = fail
    store.save(2, placed)
    try:
        store.wait()
    except ProcessFailed as error:
        assert index == "0" and "process 1 cannot go on" in str(error), error
    except CheckpointError as error:
        assert index == "1" and "step 2 could not be saved" in str(error), error
    else:
        raise AssertionError("nothing was raised")
    checkpoint.write_share = write
    assert store.steps() == [1]
    store.save(3, placed)
    store.wait()
print(json.dumps([copied, needed]), flush=True)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run that two processes saved steps 1 and 3 of, and what each copied and read."""
    home = tmp_path_factory.mktemp("shares")
    with CheckpointStore(home / "former") as store:
        store.save(5, make_state())
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    places = home / "run", home / "former"
    with ThreadPoolExecutor(2) as both:
        ended = [
            both.submit(run_python, IN_PARTS, address, n, *places, env=devices)
            for n in (0, 1)
        ]
    told = [json.loads(each.result().splitlines()[-1]) for each in ended]
    return home / "run", told


@pytest.fixture
def run_dir(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "run")
    return tmp_path / "run"


def test_no_process_copies_or_reads_the_whole(written):
    _, told = written
    for copied, needed in told:
        assert CUT_BYTES / 2 <= copied < 1.02 * CUT_BYTES / 2
        assert CUT_BYTES / 2 <= needed < 1.02 * CUT_BYTES / 2


def test_one_process_opens_what_two_wrote_in_parts(run_dir, capsys):
    assert checkpoints(run_dir) == ["1", "3"]
    with CheckpointStore(run_dir) as store:
        restored = store.restore(make_state())
        best = store.restore_best({"both": np.zeros((SIZE, SIZE), np.float32)}, part=True)
    assert restored is not None and restored.step == 3
    assert digest_tree(restored.state) == digest_tree(make_state())
    assert best is not None and best.step == 1
    np.testing.assert_array_equal(best.state["both"], make_state()["both"])
    assert verify(run_dir)
    assert capsys.readouterr().out.count("good, 7 arrays, 0.7 MB") == 2


FOUR_DEVICES = """
import sys, jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from test_shares import make_state
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
placed = jax.device_put(make_state(), NamedSharding(mesh, P()))
placed["both"] = jax.device_put(placed["both"], NamedSharding(mesh, P(None, "data")))
with CheckpointStore(sys.argv[1]) as store:
    restored = store.restore(placed)
assert restored.step == 3 and restored.state["both"].sharding == placed["both"].sharding
assert digest_tree(restored.state) == digest_tree(placed)
"""


def test_four_devices_open_what_two_processes_wrote_in_parts(run_dir):
    flags = "--xla_force_host_platform_device_count=4"
    run_python(FOUR_DEVICES, run_dir, env={"XLA_FLAGS": flags})


@pytest.mark.parametrize("process", "01")
def test_damage_to_a_share_is_found(run_dir, process):
    flip_a_bit(run_dir, process)
    with (
        pytest.warns(UserWarning, match="3 is damaged and was moved to"),
        CheckpointStore(run_dir) as store,
    ):
        restored = store.restore(make_state())
    assert restored is not None and restored.step == 1
    assert digest_tree(restored.state) == digest_tree(make_state())
    assert checkpoints(run_dir) == ["1", "quarantine"]


# Not every byte of a file of TensorStore's belongs to a value.
@pytest.mark.filterwarnings("ignore:.*3 is damaged and was moved")
@pytest.mark.parametrize("process", "01")
def test_without_the_list_damage_to_a_share_is_found_or_harmless(run_dir, process):
    flip_a_bit(run_dir, process)
    (run_dir / "checkpoints" / "3" / "SHA256SUMS").unlink()
    with CheckpointStore(run_dir) as store:
        restored = store.restore(make_state())
    assert restored is not None
    assert digest_tree(restored.state) == digest_tree(make_state())
    assert checkpoints(run_dir) == (
        ["1", "quarantine"] if restored.step == 1 else ["1", "3"]
    )


def flip_a_bit(run_dir, process):
    files = (run_dir / "checkpoints" / "3" / "shares" / process / "d").iterdir()
    values = max(files, key=lambda file: file.stat().st_size)
    content = values.read_bytes()
    values.write_bytes(flip(content, 4 * len(content)))


def test_a_share_that_is_gone_is_damage(run_dir):
    folder = run_dir / "checkpoints" / "3"
    shutil.rmtree(folder / "shares" / "1")
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="shares/1"):
        read_step(folder)


def test_parts_that_nobody_wrote_are_missed(run_dir):
    shares = run_dir / "checkpoints" / "1" / "shares"
    shutil.rmtree(shares / "1")
    with pytest.raises(ValueError, match="no process has written some parts of "):
        described(shares)


def test_what_a_killed_process_had_written_is_swept(run_dir):
    root = run_dir / "checkpoints"
    shutil.copytree(root / "3" / "shares", root / "unfinished" / "4-77")
    with CheckpointStore(run_dir) as store:
        assert store.steps() == [1, 3]
        store.sweep()
    assert checkpoints(run_dir) == ["1", "3"]


def test_a_leaf_of_another_shape_is_refused_before_it_is_read(run_dir):
    like = make_state() | {"both": jnp.zeros((SIZE, 1))}
    with (
        CheckpointStore(run_dir) as store,
        pytest.raises(CheckpointError, match="both was saved as float32"),
    ):
        store.restore(like)
