"""Strict JAX for every test: no silent promotion of dtypes."""

import os

# Nearly all of the tests' time is compilation, of programs that run for microseconds.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import jax
from convert_parity import precision as precision

jax.config.update("jax_numpy_dtype_promotion", "strict")
