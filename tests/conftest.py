"""Strict JAX for every test: no silent promotion of dtypes."""

import os
import sys

# Nearly all of the tests' time is compilation, of programs that run for microseconds.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import jax
import pytest
from convert_parity import precision as precision

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """A process may map only so much memory, and each compiled program maps some."""
    yield
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
