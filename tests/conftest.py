"""Strict JAX for every test: no silent promotion of dtypes."""

import os

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
