"""Strict JAX for every test: no silent promotion of dtypes."""

import itertools
import os
import sys
from importlib.metadata import version
from pathlib import Path

# Nearly all of the tests' time is compilation, of programs that run for microseconds. JAX
# 0.10 has two ways to emit their loops, and the older one takes half of the time.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0" + (
    " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10.")
)

# What tests compile stays out of the user's cache folder.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax
import pytest
from convert_parity import precision as precision

jax.config.update("jax_numpy_dtype_promotion", "strict")

TESTS_DONE = itertools.count(1)
MAPPED = Path("/proc/self/maps")  # Linux has it


@pytest.fixture(autouse=True)
def forget_programs():
    """Linux lets a process map 65,530 pieces of memory: a few hundred of these tests'
    programs would be too many, and the process ends without a word."""
    yield
    if next(TESTS_DONE) % 10 == 0 and MAPPED.exists():
        with MAPPED.open() as pieces:
            if sum(1 for _ in pieces) > 20_000:
                jax.clear_caches()


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls a command line: `call(main, *arguments) -> (exit code, stdout, stderr)`."""

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = 0
        # Strict only where the code is ours: the command lines of users are not.
        with jax.numpy_dtype_promotion("standard"):
            try:
                main()
            except SystemExit as end:
                code = end.code
        return code, *capsys.readouterr()

    return run
