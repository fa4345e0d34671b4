"""The checkpoint store: the same bits back, whatever happens to the files."""

import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_leaf, digest_leaves, digest_tree
from jaxrnn.training.store.orbax_writer import errors_raised_only
from jaxrnn.training.store.saved_step import CheckpointError, read_step
from jaxrnn.training.store.step_folders import step_folders
from jaxrnn.training.verify import main as verify_main

HERE = Path(__file__).parent


class Moments(NamedTuple):
    mu: Any
    nu: Any


def make_state(seed: int, size: int = 64) -> dict[str, Any]:
    """A tree with all that a training state may hold, its numbers drawn from `seed`."""
    numbers = np.random.default_rng(seed)
    weights = numbers.normal(size=(size, size)).astype(np.float32)
    return {
        "params": {"w": jnp.asarray(weights), "b": jnp.asarray(weights[0], jnp.bfloat16)},
        "moments": (Moments(mu=jnp.asarray(weights[1:]), nu=(jnp.int32(seed), ())), None),
        "key": jax.random.key(seed, impl="rbg"),
        "keys": jax.random.split(jax.random.key(seed), 3),
        "tokens": (jnp.arange(5, dtype=jnp.uint8), jnp.array([True, False])),
        "nothing": jnp.zeros((0, 3), jnp.bfloat16),
        "wide": np.arange(3, dtype=np.int64) + 2**40 * seed,
    }


LIKE = make_state(0)


def save_all(run_dir: Path, *steps: int, **options: Any) -> None:
    with CheckpointStore(run_dir, **options) as store:
        for step in steps:
            store.save(step, make_state(step))


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("template")
    save_all(run_dir, 1, 2)
    return run_dir


@pytest.fixture
def run_dir(two_steps, tmp_path) -> Path:
    """A run with steps 1 and 2, to be damaged."""
    shutil.copytree(two_steps, tmp_path / "run")
    return tmp_path / "run"


def checkpoints(run_dir: Path) -> list[str]:
    """What lies in the folder of checkpoints."""
    return sorted(entry.name for entry in (run_dir / "checkpoints").iterdir())


def digest_of(folder: Path) -> dict[str, str]:
    return {path: digest_leaf(leaf) for path, leaf in read_step(folder).leaves.items()}


def run_python(code: str, *arguments: Any, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=HERE.parent,
        env=os.environ | {"PYTHONPATH": str(HERE)} | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The same bits back


@pytest.mark.parametrize("struct", [False, True])
def test_a_state_comes_back_bit_for_bit(tmp_path, struct):
    state = make_state(3)
    wide = state["wide"]
    like = jax.eval_shape(lambda x: x, LIKE | {"wide": 0.0}) if struct else LIKE
    like |= {"wide": LIKE["wide"]}
    record = {"skipped": [[3, 5]], "rate": 0.1, "note": "ü"}
    with CheckpointStore(tmp_path) as store:
        assert store.restore(like) is None
        store.save(3, state, record=record)
        restored = store.restore(like)
    assert restored is not None
    assert (restored.step, restored.record) == (3, record)
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert digest_leaves(restored.state) == digest_leaves(state)
    assert isinstance(restored.state["moments"][0], Moments)
    assert restored.state["wide"].dtype == np.int64
    np.testing.assert_array_equal(restored.state["wide"], wide)
    draw = jax.random.uniform(restored.state["key"])
    assert draw == jax.random.uniform(state["key"])
    with CheckpointStore(tmp_path) as store:
        again = store.restore(like)
    assert again is not None and digest_tree(again.state) == digest_tree(state)


def test_the_state_may_be_donated_or_overwritten_once_save_returns(tmp_path):
    donate = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf * 2, x), donate_argnums=0)
    state = {"jax": jnp.arange(300_000.0), "numpy": np.arange(300_000.0)}
    expected = digest_tree(state)
    with CheckpointStore(tmp_path) as store:
        store.save(1, state)
        after = donate(state["jax"])
        assert state["jax"].is_deleted()
        state["numpy"][:] = 0
        restored = store.restore({"jax": after, "numpy": state["numpy"]})
    assert restored is not None and digest_tree(restored.state) == expected


def test_uncommitted_arrays_come_back_uncommitted(run_dir):
    with CheckpointStore(run_dir) as store:
        free = store.restore(LIKE)
        device = jax.devices()[0]
        bound = store.restore(jax.device_put(LIKE, device) | {"wide": LIKE["wide"]})
    assert free is not None and not free.state["params"]["w"].committed
    assert bound is not None and bound.state["params"]["w"].committed


def test_a_state_without_any_numbers_comes_back(tmp_path):
    state = {"nothing": jnp.zeros((0, 3), jnp.bfloat16), "none": ()}
    with CheckpointStore(tmp_path) as store:
        store.save(1, state)
        restored = store.restore(state)
    assert restored is not None and digest_tree(restored.state) == digest_tree(state)


def test_digests_tell_apart_what_differs_in_bits_dtype_shape_or_key_kind():
    leaves = [
        np.zeros(4, np.float32),
        -np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.int32),
        jnp.zeros(8, jnp.bfloat16),
        jnp.zeros(8, jnp.float16),
        jax.random.key(0, impl="rbg"),
        jax.random.key(0, impl="unsafe_rbg"),
        jax.random.key_data(jax.random.key(0, impl="rbg")),
    ]
    assert len({digest_leaves(leaf)[""] for leaf in leaves}) == len(leaves)
    array = np.arange(6.0).reshape(2, 3)
    assert digest_tree(array.T) == digest_tree(np.ascontiguousarray(array.T))


def test_a_leaf_that_is_no_array_is_refused_by_name(tmp_path):
    with CheckpointStore(tmp_path) as store:
        with pytest.raises(ValueError, match="params/rate is a float, not an array"):
            store.save(1, {"params": {"rate": 0.5}})
        with pytest.raises(ValueError, match="same path"):
            store.save(1, {"a/b": np.zeros(1), "a": {"b": np.zeros(1)}})
        assert store.steps() == []


SHARDED = """
import sys, jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec("data"))
whole = NamedSharding(mesh, PartitionSpec())
state = {"carry": jnp.arange(24.0).reshape(8, 3), "key": jax.random.key(7)}
placed = {"carry": jax.device_put(state["carry"], rows),
          "key": jax.device_put(state["key"], whole)}
assert digest_tree(placed) == digest_tree(state)
with CheckpointStore(sys.argv[1]) as store:
    former = store.restore(placed)
    assert former.state["carry"].sharding == rows
    assert former.state["key"].sharding.is_equivalent_to(whole, 0)
    assert digest_tree(former.state) == digest_tree(state)
    store.save(2, placed)
"""


def test_a_run_moves_between_one_device_and_four(tmp_path):
    state = {"carry": jnp.arange(24.0).reshape(8, 3), "key": jax.random.key(7)}
    with CheckpointStore(tmp_path) as store:
        store.save(1, state)
    flags = "--xla_force_host_platform_device_count=4"
    run_python(SHARDED, tmp_path, env={"XLA_FLAGS": flags})
    with CheckpointStore(tmp_path) as store:
        restored = store.restore(state)
    assert restored is not None and restored.step == 2
    assert digest_tree(restored.state) == digest_tree(state)


TWO_PROCESSES = """
import sys, jax, jax.numpy as jnp
address, index, run_dir = sys.argv[1:]
jax.distributed.initialize(address, 2, int(index))
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
shardings = {"carry": NamedSharding(mesh, PartitionSpec("data")),
             "key": NamedSharding(mesh, PartitionSpec())}
make = lambda: {"carry": jnp.arange(24.0).reshape(8, 3), "key": jax.random.key(7)}
placed = jax.jit(make, out_shardings=shardings)()
with CheckpointStore(run_dir) as store:
    former = store.restore(placed)
    assert former.step == 1 and former.state["carry"].sharding == shardings["carry"]
    assert digest_tree(former.state) == digest_tree(placed) == digest_tree(make())
    for step in (2, 3):
        store.save(step, placed, loss=float(step))
    assert store.steps() == [2, 3]
    assert store.restore_best(placed).step == 2
"""


@pytest.mark.slow
def test_a_run_moves_between_one_process_and_two(tmp_path):
    state = {"carry": jnp.arange(24.0).reshape(8, 3), "key": jax.random.key(7)}
    with CheckpointStore(tmp_path) as store:
        store.save(1, state)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with ThreadPoolExecutor(2) as both:
        for done in [
            both.submit(run_python, TWO_PROCESSES, address, n, tmp_path) for n in (0, 1)
        ]:
            done.result()
    with CheckpointStore(tmp_path) as store:
        restored = store.restore(state)
    assert restored is not None and restored.step == 3
    assert digest_tree(restored.state) == digest_tree(state)


def test_a_checkpoint_of_format_1_can_still_be_read(tmp_path):
    shutil.copytree(HERE / "fixtures" / "checkpoint_format_1", tmp_path / "run")
    like = {
        "params": Moments(mu=jnp.zeros((2, 3)), nu=jnp.zeros(3, jnp.bfloat16)),
        "key": jax.random.key(0),
        "step": jnp.int32(0),
        "carry": (),
    }
    with CheckpointStore(tmp_path / "run") as store:
        restored = store.restore(like)
    assert restored is not None
    assert (restored.step, restored.record) == (40, {"seconds": 2.5})
    assert restored.state["step"] == 40
    np.testing.assert_array_equal(restored.state["params"].mu, np.arange(6.0).reshape(2, 3))
    digest = "72465be5cce47f26a5ea4300b357901095bc06e0778146644e33cf6de132fed2"
    assert digest_tree(restored.state) == digest


# Which steps stay


def test_the_latest_and_the_best_are_kept(tmp_path):
    losses = {1: 2.0, 2: 1.0, 3: 1.0, 4: None, 5: float("nan"), 6: 3.0}
    for step, loss in losses.items():
        # A new store each time: what is best must be known after a restart.
        with CheckpointStore(tmp_path, keep_latest=2, keep_best=1) as store:
            store.save(step, make_state(step), loss=loss)
    with CheckpointStore(tmp_path) as store:
        assert store.steps() == [2, 5, 6]
        best = store.restore_best(LIKE)
    assert best is not None and best.step == 2
    assert digest_tree(best.state) == digest_tree(make_state(2))
    assert checkpoints(tmp_path) == ["2", "5", "6"]


def test_without_a_loss_there_is_no_best(run_dir):
    with CheckpointStore(run_dir) as store:
        assert store.restore_best(LIKE) is None


def test_a_save_below_the_latest_begins_a_new_history(tmp_path):
    save_all(tmp_path, 1, 2, 3, 4, keep_latest=4)
    with CheckpointStore(tmp_path, keep_latest=4) as store:
        store.save(3, make_state(30))
        assert store.steps() == [1, 2, 3]
        store.save(3, make_state(31))
        restored = store.restore(LIKE)
    assert restored is not None and restored.step == 3
    assert digest_tree(restored.state) == digest_tree(make_state(31))
    assert checkpoints(tmp_path) == ["1", "2", "3"]


def test_what_a_cut_off_save_had_set_aside_is_still_there(run_dir):
    root = run_dir / "checkpoints"
    (root / "replaced" / "1").mkdir(parents=True)
    for step in "12":
        (root / step).rename(root / "replaced" / "1" / step)
    (root / "1.orbax-checkpoint-tmp").mkdir()
    with CheckpointStore(run_dir) as store:
        assert store.steps() == [1, 2]
        restored = store.restore(LIKE)
        assert restored is not None and restored.step == 2
        store.save(3, make_state(3))
        assert store.steps() == [2, 3]
    assert checkpoints(run_dir) == ["2", "3"]


def test_what_a_killed_process_left_is_swept_without_a_save(run_dir):
    root = run_dir / "checkpoints"
    shutil.copytree(root / "1", root / "trash" / "0")
    shutil.copytree(root / "1", root / "3.orbax-checkpoint-tmp")
    (root / "replaced" / "2").mkdir(parents=True)
    (root / "2").rename(root / "replaced" / "2" / "2")
    with CheckpointStore(run_dir) as store:
        assert store.steps() == [1, 2]
        store.sweep()
        assert store.steps() == [1, 2]
    assert checkpoints(run_dir) == ["1", "2"]


@pytest.mark.parametrize("options", [{"keep_latest": 0}, {"keep_best": -1}])
def test_keeping_nothing_is_refused(tmp_path, options):
    with pytest.raises(ValueError, match="keep_latest must be 1 or more"):
        CheckpointStore(tmp_path, **options)


# What does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wide": np.zeros(4, np.int64)}, r"wide was saved as int64\[3\] and int64\[4\]"),
        ({"wide": np.zeros(3, np.int32)}, r"wide was saved as int64\[3\] and int32\[3\]"),
        ({"key": jax.random.key(0)}, r"key was saved as key<rbg>\[4\] and key<fry>\[2\]"),
        ({"more": np.zeros(3)}, "it lacks more"),
        ({"tokens": ()}, "it holds tokens/0, tokens/1, which is not wanted"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(run_dir, change, message):
    with CheckpointStore(run_dir) as store:
        with pytest.raises(CheckpointError, match=f"step 2 .* does not fit: {message}"):
            store.restore(LIKE | change)
        assert store.steps() == [1, 2]


# Damage


def files_of_newest(run_dir: Path) -> list[str]:
    folder = run_dir / "checkpoints" / "2"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def zero_tail(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def restore_after_damage(run_dir: Path) -> int:
    """Restores, checks that what comes back is the truth, and returns its step."""
    with warnings.catch_warnings(record=True) as caught, CheckpointStore(run_dir) as store:
        warnings.simplefilter("always")
        restored = store.restore(LIKE)
    assert restored is not None
    assert digest_tree(restored.state) == digest_tree(make_state(restored.step))
    if restored.step == 2:
        assert not caught
    else:
        (warning,) = caught
        assert "2 is damaged and was moved to" in str(warning.message)
        assert checkpoints(run_dir) == ["1", "quarantine"]
    return restored.step


def read_files(run_dir: Path) -> tuple[set[str], set[str]]:
    """The files of step 2 that a restore reads without their list, and that it may read.

    TensorStore spreads the values over one file or several, with an index beside them
    that nobody reads, all under names that tell nothing: the largest one holds values.
    """
    folder = run_dir / "checkpoints" / "2"
    values = sorted(
        (folder / "state/ocdbt.process_0/d").iterdir(), key=lambda p: p.stat().st_size
    )
    index = [values[-1], *(folder / "state/d").iterdir()]
    read = {str(file.relative_to(folder)) for file in index}
    read |= {"meta/metadata", "state/manifest.ocdbt"}
    return read, read | {str(file.relative_to(folder)) for file in values}


@pytest.mark.parametrize("damage", [truncate, empty, zero_tail, None])
@pytest.mark.parametrize("listed", [True, False])
def test_damage_to_any_file_is_found(two_steps, tmp_path, damage, listed):
    found = set()
    names = files_of_newest(two_steps)
    for number, name in enumerate(names):
        run_dir = tmp_path / str(number)
        shutil.copytree(two_steps, run_dir)
        folder = run_dir / "checkpoints" / "2"
        file = folder / name
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
        if not listed:
            (folder / "SHA256SUMS").unlink(missing_ok=True)
        if restore_after_damage(run_dir) == 1:
            found.add(name)
    if listed:
        # A step whose list is gone is what a process leaves that was killed just before.
        assert set(names) - found == ({"SHA256SUMS"} if damage is None else set())
    else:
        # Then the digests of the leaves find what a restore would read.
        read, may_be_read = read_files(two_steps)
        assert read <= found <= may_be_read


def test_every_flipped_bit_is_found(two_steps, tmp_path):
    places = random.Random(5)
    for name in files_of_newest(two_steps):
        original = (two_steps / "checkpoints" / "2" / name).read_bytes()
        for bit in places.sample(range(8 * len(original)), 6):
            run_dir = tmp_path / f"{name.replace('/', '-')}-{bit}"
            shutil.copytree(two_steps, run_dir)
            (run_dir / "checkpoints" / "2" / name).write_bytes(flip(original, bit))
            assert restore_after_damage(run_dir) == 1


def test_without_the_list_a_flipped_bit_is_found_or_harmless(two_steps, tmp_path):
    places = random.Random(6)
    read, may_be_read = read_files(two_steps)
    flips = found = 0
    for name in sorted(read):
        original = (two_steps / "checkpoints" / "2" / name).read_bytes()
        for bit in places.sample(range(8 * len(original)), 15):
            run_dir = tmp_path / str(flips)
            shutil.copytree(two_steps, run_dir)
            (run_dir / "checkpoints" / "2" / name).write_bytes(flip(original, bit))
            (run_dir / "checkpoints" / "2" / "SHA256SUMS").unlink()
            found += restore_after_damage(run_dir) == 1
            flips += 1
    # A flip may fall on a byte that no reader looks at; few do.
    assert found > 0.8 * flips


def test_the_list_of_files_is_that_of_sha256sum(run_dir):
    folder = run_dir / "checkpoints" / "2"
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder).returncode == 0
    (folder / "extra").write_text("")
    with pytest.raises(ValueError, match="extra is not the file that was saved"):
        read_step(folder)


def test_a_damaged_step_is_kept_as_evidence(run_dir):
    file = run_dir / "checkpoints" / "2" / "meta" / "metadata"
    file.write_bytes(damaged := flip(file.read_bytes(), 77))
    assert restore_after_damage(run_dir) == 1
    kept = run_dir / "checkpoints" / "quarantine"
    assert (kept / "2" / "meta" / "metadata").read_bytes() == damaged
    save_all(run_dir, 2)
    file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="quarantine/2-2"),
        CheckpointStore(run_dir) as store,
    ):
        store.restore(LIKE)
    assert (kept / "2" / "meta" / "metadata").read_bytes() == damaged
    assert (kept / "2-2" / "meta" / "metadata").read_bytes() == b""


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(run_dir):
    for step in "12":
        (run_dir / "checkpoints" / step / "meta" / "metadata").write_text("{}")
    with CheckpointStore(run_dir) as store:
        with (
            pytest.warns(UserWarning, match="is damaged"),
            pytest.raises(CheckpointError, match="no good checkpoint is left"),
        ):
            store.restore(LIKE)
        # Nor at the second attempt, when all are in quarantine.
        with pytest.raises(CheckpointError, match="no good checkpoint is left"):
            store.restore(LIKE)


def test_an_empty_folder_is_no_checkpoint(run_dir):
    (run_dir / "checkpoints" / "7").mkdir()
    with pytest.warns(UserWarning, match="7 is damaged"), CheckpointStore(run_dir) as store:
        restored = store.restore(LIKE)
    assert restored is not None and restored.step == 2


def test_a_step_under_another_number_is_refused(run_dir):
    root = run_dir / "checkpoints"
    (root / "1").rename(root / "9")
    with (
        pytest.warns(UserWarning, match="saved as step 1"),
        CheckpointStore(run_dir) as store,
    ):
        restored = store.restore(LIKE)
    assert restored is not None and restored.step == 2


def test_the_best_falls_back_too(tmp_path):
    with CheckpointStore(tmp_path, keep_best=2) as store:
        for step, loss in ((1, 0.2), (2, 0.1), (3, None), (4, None)):
            store.save(step, make_state(step), loss=loss)
        store.wait()
        (tmp_path / "checkpoints" / "2" / "meta" / "metadata").write_text("")
        with pytest.warns(UserWarning, match="2 is damaged"):
            best = store.restore_best(LIKE)
    assert best is not None and best.step == 1


def test_a_checkpoint_of_another_format_is_neither_read_nor_moved(run_dir, monkeypatch):
    monkeypatch.setattr("jaxrnn.training.store.saved_step.READS", (2,))
    with CheckpointStore(run_dir) as store:
        with pytest.raises(CheckpointError, match="has format 1; this version reads 2"):
            store.restore(LIKE)
        assert store.steps() == [1, 2]


@pytest.mark.parametrize("name", ["meta", "meta/metadata", "state/d", "extra", "."])
def test_a_link_inside_a_checkpoint_is_refused(run_dir, tmp_path, name):
    path = (run_dir / "checkpoints" / "2" / name).resolve()
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").write_text("secret")
    path.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.warns(UserWarning, match="is a link or a special file"),
        CheckpointStore(run_dir) as store,
    ):
        restored = store.restore(LIKE)
    assert restored is not None and restored.step == 1


def test_a_special_file_inside_a_checkpoint_is_refused(run_dir):
    os.mkfifo(run_dir / "checkpoints" / "2" / "pipe")
    with (
        pytest.warns(UserWarning, match="is a link or a special file"),
        CheckpointStore(run_dir) as store,
    ):
        store.restore(LIKE)


def test_orbax_reads_a_checkpoint_by_itself(run_dir):
    with ocp.StandardCheckpointer() as orbax:
        arrays = orbax.restore(run_dir / "checkpoints" / "2" / "state")
    leaves = read_step(run_dir / "checkpoints" / "2").leaves
    assert set(arrays) | {"nothing"} == set(leaves)
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, leaves[path].data)


# Failing disks and killed processes


def test_a_folder_that_cannot_be_written_to_is_an_error_at_the_next_call(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with (
        pytest.raises(CheckpointError, match="step 1 could not be saved in .*checkpoints"),
        CheckpointStore(tmp_path) as store,
    ):
        store.save(1, make_state(1))
        store.save(2, make_state(2))


def test_leaving_after_an_error_still_saves(tmp_path):
    with pytest.raises(KeyError), CheckpointStore(tmp_path) as store:
        store.save(1, make_state(1))
        raise KeyError
    with CheckpointStore(tmp_path) as store:
        assert store.restore(LIKE) is not None


def test_saving_outside_of_a_with_block_is_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(ValueError, match="save needs `with CheckpointStore"):
        store.save(1, make_state(1))
    with store:
        store.save(1, make_state(1))
    with pytest.raises(ValueError, match="save needs `with CheckpointStore"):
        store.save(2, make_state(2))
    with store:
        assert store.steps() == [1]
        store.save(2, make_state(2))
    assert store.steps() == [1, 2]


FULL_DISK = """
import resource, sys
from pathlib import Path
from test_checkpoint import CheckpointError, CheckpointStore, make_state
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
root = Path(sys.argv[1]) / "checkpoints"
with CheckpointStore(sys.argv[1], keep_latest=3) as store:
    store.save(1, make_state(1))
    store.save(2, make_state(2))
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    for step in (3, 4, 2):
        store.save(step, make_state(step))
        try:
            store.save(9, make_state(9))
        except CheckpointError as error:
            assert f"step {step} could not be saved in {root}" in str(error), error
            print("refused", store.steps())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.save(5, make_state(5))
    print("saved", store.steps())
"""


def test_a_full_disk_is_an_error_and_the_run_goes_on_once_there_is_room(tmp_path):
    said = run_python(FULL_DISK, tmp_path)
    assert said.splitlines() == ["refused [1, 2]"] * 3 + ["saved [1, 2, 5]"]
    for step in (1, 2, 5):
        folder = tmp_path / "checkpoints" / str(step)
        assert digest_of(folder) == digest_leaves(make_state(step))
    assert set(checkpoints(tmp_path)) == {"1", "2", "5"}


def test_only_what_is_raised_to_us_is_kept_out_of_the_log(tmp_path):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    level = logger.level
    try:
        with errors_raised_only(tmp_path):
            assert logger.level == level and logger.isEnabledFor(logging.ERROR)
            with ThreadPoolExecutor(1) as orbax:
                orbax.submit(logger.error, "cannot write %s/1/state", tmp_path).result()
            logger.warning("slow: %s/1/state", tmp_path)
            logger.error("cannot write %s-2/1/state", tmp_path)
            logger.error("something else")
        logger.error("cannot read %s/1/state", tmp_path)
    finally:
        logger.removeHandler(handler)
    assert seen == [
        f"slow: {tmp_path}/1/state",
        f"cannot write {tmp_path}-2/1/state",
        "something else",
        f"cannot read {tmp_path}/1/state",
    ]


SAVE_FOR_EVER = """
import itertools, sys
from test_checkpoint import LIKE, CheckpointStore, make_state
with CheckpointStore(sys.argv[1]) as store:
    former = store.restore(LIKE)
    first = former.step + 1 if former else 0
    for step in itertools.count(first):
        store.save(step, make_state(step), loss=float(-step % 7))
        if step % 5 == 4:  # rolled back
            store.save(step - 2, make_state(step - 2))
            store.save(step, make_state(step))
        if step == first:
            store.wait()
            print("saving", flush=True)
"""


@pytest.mark.slow
def test_whenever_a_process_is_killed_every_step_is_good(tmp_path):
    moments = random.Random(1)
    newest = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, tmp_path],
            cwd=HERE.parent,
            env=os.environ | {"PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"saving\n"
            end = time.monotonic() + moments.uniform(0, 0.5)
            # To read meanwhile must find whole steps only: a warning is an error here.
            while time.monotonic() < end:
                if (seen := CheckpointStore(tmp_path).restore(LIKE)) is not None:
                    assert digest_tree(seen.state) == digest_tree(make_state(seen.step))
            process.kill()
        with CheckpointStore(tmp_path) as store:
            steps = store.steps()
            restored = store.restore(LIKE)
        # 2 latest, 1 best, 1 not yet deleted, and as many set aside.
        assert steps and len(steps) <= 6
        for step, folder in step_folders(tmp_path / "checkpoints").items():
            assert digest_of(folder) == digest_leaves(make_state(step))
        # A rollback of two may be the last that was saved.
        assert restored is not None and restored.step == max(steps) >= newest - 2
        newest = restored.step
    save_all(tmp_path, newest + 1)
    # Nothing temporary stays.
    assert all(name.isdecimal() for name in checkpoints(tmp_path))


# The command


def test_verify_says_which_steps_are_good(run_dir, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["verify", str(run_dir)])
    assert verify_main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "step 1: good, 10 arrays, 0.0 MB",
        "step 2: good, 10 arrays, 0.0 MB",
    ]
    values = run_dir / "checkpoints" / "2" / "state" / "manifest.ocdbt"
    values.write_bytes(flip(values.read_bytes(), 99))
    before = files_of_newest(run_dir)
    assert verify_main() == 1
    good, damaged = capsys.readouterr().out.splitlines()
    assert good.startswith("step 1: good") and damaged.startswith("step 2: DAMAGED")
    assert files_of_newest(run_dir) == before
    with pytest.warns(UserWarning), CheckpointStore(run_dir) as store:
        store.restore(LIKE)
    assert verify_main() == 0
    assert "quarantine/2: damaged, set aside earlier" in capsys.readouterr().out


def test_verify_refuses_what_is_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["verify", str(tmp_path / "absent")])
    with pytest.raises(SystemExit) as end:
        verify_main()
    assert end.value.code == 2
    assert "no such folder" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["verify", str(tmp_path)])
    assert verify_main() == 1
    assert "no checkpoints in" in capsys.readouterr().out
