"""Several processes: what one decides, all are told, and none waits for one that failed."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_checkpoint import run_python
from test_trainer import ROWS

from jaxrnn.training.store.checkpoint import CheckpointStore

STATE = {"w": np.arange(6.0, dtype=np.float32)}

TOGETHER = """
import errno, sys
from pathlib import Path
import jax, numpy as np
address, index, run_dir, elsewhere = sys.argv[1:]
jax.distributed.initialize(address, 2, int(index))
from jaxrnn.training.store import good_steps
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.run.metrics import MetricsLog
from jaxrnn.training.store.reads import Damaged
from jaxrnn.training.processes import ProcessFailed, first_only, together, told_by_first
from jaxrnn.training.store.saved_step import CheckpointError
from jaxrnn.training.store.step_writer import StepWriter

first = int(index) == 0
state = {"w": np.arange(6.0, dtype=np.float32)}

def fails(act, *, in_first, error, words):
    # With a sentence of its own where it failed, and of that one elsewhere.
    try:
        act()
    except ProcessFailed as told:
        assert first is not in_first and f"process {0 if in_first else 1} " in str(told)
    except error as told:
        assert first is in_first and words in str(told), told
    else:
        raise AssertionError("nothing was raised")

def fail(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")

def raise_damaged(*_, **__):
    raise Damaged("its digest differs")

assert told_by_first(lambda: [3, 5] if first else [1]) == [3, 5]
assert told_by_first(lambda: [] if first else [1]) == []
assert together(lambda: int(index)) == int(index)
fails(lambda: first_only(fail), in_first=True, error=OSError, words="Stale")

# The listing is that of the first process, whatever another one sees.
store = CheckpointStore(run_dir if first else elsewhere)
assert store.steps() == [1]
fails(lambda: store.restore(state), in_first=False, error=CheckpointError,
      words="process 1 does not find step 1")

store, read = CheckpointStore(run_dir), good_steps.read_step
assert store.restore(state).step == 1
for in_first in (True, False):
    good_steps.read_step = fail if first is in_first else read
    fails(lambda: store.restore(state), in_first=in_first, error=OSError, words="Stale")
good_steps.read_step = read if first else raise_damaged
fails(lambda: store.restore(state), in_first=False, error=CheckpointError,
      words="its digest differs")
good_steps.read_step = read
assert store.restore(state).step == 1

log = MetricsLog(Path(run_dir) / ("none/metrics.jsonl" if first else "metrics.jsonl"))
fails(lambda: log.write([{"step": 1}]), in_first=True, error=OSError, words="No such file")

# A disk that the first process cannot write to.
if first:
    StepWriter.write = fail
with CheckpointStore(run_dir) as store:
    store.save(2, state)
    fails(store.wait, in_first=True, error=OSError, words="Stale")
print("agreed", flush=True)
"""


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def test_what_one_process_decides_all_are_told(tmp_path, address):
    with CheckpointStore(tmp_path / "run") as store:
        store.save(1, STATE)
    with ThreadPoolExecutor(2) as both:
        ended = [
            both.submit(
                run_python, TOGETHER, address, n, tmp_path / "run", tmp_path / "none"
            )
            for n in (0, 1)
        ]
        assert all(each.result().endswith("agreed\n") for each in ended)


ROWS_OF_EACH = """
import json, sys
import jax
address, index = sys.argv[1:]
jax.distributed.initialize(address, 2, int(index))
import numpy as np, optax
from test_trainer import Weighed
from jaxrnn.training.mesh import place
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.trainer import Trainer

asked = []

class Asked(Weighed):
    def batch(self, step, rows):
        asked.append(rows.tolist())
        return super().batch(step, rows)

class Whole(Trainer):
    def batch(self, step):
        batch = self.problem.batch(step, np.arange(self.problem.rows))
        return place(batch, self.problem.batch_spec, self.mesh)

class Short(Weighed):
    def batch(self, step, rows):
        return super().batch(step, rows[1:])

ends = []
for trainer in (kind(Asked(), optax.adam(0.1)) for kind in (Trainer, Whole)):
    state = trainer.init(0)
    for step in range(3):
        state, _ = trainer.step(state, trainer.batch(step))
    ends.append(digest_tree(state))
try:
    Trainer(Short(), optax.adam(0.1)).batch(0)
except ValueError as error:
    print(json.dumps([asked, ends, str(error)]), flush=True)
"""


@pytest.mark.slow
def test_each_process_is_asked_for_its_rows_and_learns_as_from_whole_batches(address):
    with ThreadPoolExecutor(2) as both:
        ended = [both.submit(run_python, ROWS_OF_EACH, address, index) for index in (0, 1)]
    # Before the last line a library may tell of its connections.
    told = [json.loads(each.result().splitlines()[-1]) for each in ended]
    (first, ends, error), (second, others, _) = told
    everything = [list(range(ROWS))] * 3
    assert first == [[0, 1, 2, 3]] * 3 + everything
    assert second == [[4, 5, 6, 7]] * 3 + everything
    assert ends == others and len(set(ends)) == 1
    assert "asked for 4 of 8 rows and gave an array of [5, 3, 2]" in error
