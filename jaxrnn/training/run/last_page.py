"""The report of a run at its end, by a process of its own."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from jaxrnn.training.run.stop import StopRequest

SECONDS = 600  # and it is given up
LOOK_EVERY = 0.2
LIBRARIES = "altair", "vl_convert"


def write_last_page(run_dir: Path, stop: StopRequest) -> None:
    """Writes report.html into the run's folder, where the libraries of the extra "report"
    are installed, and prints where it is or why it is not.

    Another process does so, on the CPU: what goes wrong there, and the memory that it
    takes, is none of the run's. A signal to `stop` ends it.
    """
    if not all(map(find_spec, LIBRARIES)):
        return
    page = run_dir / "report.html"
    # It finds what this process finds, such as the class that opens the run.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxrnn.report", "--out", str(page), "--", str(run_dir)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a signal of the terminal is for the run to answer
    )
    began, said = time.monotonic(), None
    while said is None:
        try:
            said = process.communicate(timeout=LOOK_EVERY)[1]
        except subprocess.TimeoutExpired:
            if stop.signal is not None or time.monotonic() - began > SECONDS:
                process.kill()
    if process.returncode == 0:
        print(f"report: {page}")
    else:
        reason = (said.strip().splitlines() or ["it was ended"])[-1]
        print(f"no report: {reason}", file=sys.stderr)
