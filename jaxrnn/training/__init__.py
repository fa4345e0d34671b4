"""Training that can be stopped at any moment and goes on with the same bits.

Each piece is usable alone. `CheckpointStore` and `RunLock` make any loop resume exactly;
a `Problem` says what is learned, a `Trainer` how, and a `Run` keeps both in a folder.
"""

from jaxrnn.training.dynamic import (
    Dynamic as Dynamic,
    DynamicRule as DynamicRule,
    gradient_rms as gradient_rms,
)
from jaxrnn.training.evaluation import watched as watched
from jaxrnn.training.mesh import make_mesh as make_mesh
from jaxrnn.training.optimiser import (
    Optimiser as Optimiser,
    make_plateau as make_plateau,
    make_schedule as make_schedule,
    make_transform as make_transform,
    matrices as matrices,
)
from jaxrnn.training.problem import Problem as Problem, Sum as Sum
from jaxrnn.training.run.command import refusals as refusals, train as train
from jaxrnn.training.run.loop import Loop as Loop, Plan as Plan
from jaxrnn.training.run.metrics import (
    MetricsLog as MetricsLog,
    read_metrics as read_metrics,
)
from jaxrnn.training.run.opened import Opened as Opened, Section as Section
from jaxrnn.training.run.options import Options as Options
from jaxrnn.training.run.progress import Progress as Progress
from jaxrnn.training.run.reopen import (
    best_params as best_params,
    check_data as check_data,
    newest_state as newest_state,
    read_options as read_options,
)
from jaxrnn.training.run.run import NotFinite as NotFinite, Run as Run
from jaxrnn.training.run.stop import StopRequest as StopRequest
from jaxrnn.training.state import TrainState as TrainState
from jaxrnn.training.store.checkpoint import (
    CheckpointStore as CheckpointStore,
    Restored as Restored,
)
from jaxrnn.training.store.digest import (
    digest_leaves as digest_leaves,
    digest_tree as digest_tree,
)
from jaxrnn.training.store.lock import RunLock as RunLock, RunLocked as RunLocked
from jaxrnn.training.store.saved_step import CheckpointError as CheckpointError
from jaxrnn.training.trainer import Trainer as Trainer
