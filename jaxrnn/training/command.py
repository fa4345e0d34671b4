"""The manners of a command line that trains: refusals, signals, the command to go on."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxrnn.training.checkpoint import CheckpointError
from jaxrnn.training.options import Options
from jaxrnn.training.processes import FirstProcessFailed, connect, is_first
from jaxrnn.training.run import NotFinite, Run
from jaxrnn.training.stop import StopRequest
from jaxrnn.training.task import Task

REFUSED = 2
FAILED = 1
UNABLE = (CheckpointError, NotFinite, FirstProcessFailed, OSError)


@contextmanager
def refusals(
    code: int = REFUSED, errors: tuple[type[Exception], ...] = (ValueError, OSError)
) -> Iterator[None]:
    """Turns an error about what the user asked for into one sentence, without a traceback.

    That is a ValueError, or an OSError for a file or folder that cannot be used. Training
    itself raises `UNABLE` where the world does not let it go on; another error there is
    ours, not the user's.
    """
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed: no fault of what was asked
        raise
    except errors as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(code)


def train(options: Options, make_task: Callable[[], Task]) -> Run:
    """A whole run as a command: begins it or goes on, trains, writes what it came to.

    Exits with 2 when it cannot begin, with 1 when it cannot go on (a full disk, numbers
    that are not finite), and with 128 + the signal that stopped it, the state saved and
    the command that goes on printed.
    """
    with ExitStack() as stack:
        if options.distributed:
            with refusals():
                connect()
        # After connecting, since JAX takes SIGTERM for itself there.
        stop = stack.enter_context(StopRequest())
        with refusals():
            run = stack.enter_context(Run(make_task(), options))
        with refusals(FAILED, UNABLE):
            ended = run.train(stop)
        if not ended:
            assert stop.signal is not None
            if is_first():
                step = int(run.state.step)
                print(f"stopped at step {step}; go on with: {resume_command(options)}")
            sys.exit(128 + stop.signal)
        with refusals(FAILED, UNABLE):
            run.finish()
    return run


def resume_command(options: Options) -> str:
    # Of two options of one name the last one counts.
    resume = ["--resume", "auto"] if options.resume == "never" else []
    return shlex.join([*module_command(main_module()), *sys.argv[1:], *resume])


def module_command(module: str) -> list[str]:
    """What runs a module, with the interpreter of this folder's environment, which need
    not be activated."""
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(Path.cwd()):
        python = str(interpreter.relative_to(Path.cwd()))
    else:
        python = "python"
    return [python, "-m", module]


def main_module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]
