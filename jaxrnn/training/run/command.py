"""The manners of a command line that trains: refusals, signals, the command to go on."""

import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxrnn.training.evaluation import Cut
from jaxrnn.training.processes import ProcessFailed, connect, is_first, together
from jaxrnn.training.run.last_page import write_last_page
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.run import NotFinite, Run
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.store.checkpoint import CheckpointError
from jaxrnn.training.trainer import Trainer

REFUSED = 2
FAILED = 1
UNABLE = (CheckpointError, NotFinite, ProcessFailed, OSError)


@contextmanager
def refusals(
    code: int = REFUSED,
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ImportError),
    *,
    options: Options | None = None,
) -> Iterator[None]:
    """Turns an error about what the user asked for into one sentence, without a traceback.

    That is a ValueError, an OSError for a file or folder that cannot be used, or an
    ImportError for an extra that is not installed. Training
    itself raises `UNABLE`, for a full disk or numbers that are not finite; another error
    there is ours, not the user's.

    options: those of a command that trains, which may ask for the traceback: a problem
    of one's own has errors that no sentence explains.
    """
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed: no fault of what was asked
        raise
    except errors as error:
        sentence = " ".join(str(error).split())
        if options is not None and options.traceback:
            traceback.print_exception(error)
        elif options is not None:
            sentence += " (--traceback shows where)"
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)


def train(options: Options, make_trainer: Callable[[], Trainer]) -> Run:
    """A whole run as a command: begins it or goes on, trains, writes what it came to.

    Exits with 2 when it cannot begin, with 1 when it cannot go on (a full disk, numbers
    that are not finite), and with 128 + the signal that stopped it, the state saved and
    the command that goes on printed.
    """
    with ExitStack() as stack:
        if options.distributed:
            with refusals(options=options):
                connect()
        # After connecting, since JAX takes SIGTERM for itself there.
        stop = stack.enter_context(StopRequest())
        with refusals(options=options):
            run = stack.enter_context(Run(together(make_trainer), options))
        with refusals(FAILED, UNABLE, options=options):
            ended = run.train(stop) and finished(run, stop)
        if not ended:
            assert stop.signal is not None
            if is_first():
                step = int(run.state.step)
                print(f"stopped at step {step}; go on with: {resume_command(options)}")
            sys.exit(128 + stop.signal)
        if options.report and is_first():
            write_last_page(run.directory.path, stop)
    return run


def finished(run: Run, stop: StopRequest) -> bool:
    """Whether the run was summed up before `stop` came."""
    try:
        run.finish(stop)
    except Cut:
        return False
    return True


def resume_command(options: Options) -> str:
    """What goes on with this run: the command that began it, a module's or a script's."""
    spec = sys.modules["__main__"].__spec__
    if spec is None or spec.name == "__main__":  # python path/script.py, or a folder
        began = [python(), sys.argv[0]]
    else:
        began = module_command(spec.name.removesuffix(".__main__"))
    asked = any(word.startswith("--resume") for word in sys.argv[1:])
    # Of two options of one name the last one counts.
    resume = ["--resume", "auto"] if asked and options.resume == "never" else []
    return shlex.join([*began, *sys.argv[1:], *resume])


def module_command(module: str) -> list[str]:
    return [python(), "-m", module]


def python() -> str:
    """What starts this interpreter from this folder, its environment activated or not."""
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(Path.cwd()):
        return str(interpreter.relative_to(Path.cwd()))
    found = shutil.which("python")
    if found is not None and Path(found).parent == interpreter.parent:
        return "python"
    return str(interpreter)
